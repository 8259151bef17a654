# deepseek-ocr-mcp on the CPU: RapidOCR with its models, and Tesseract for the scripts that RapidOCR does not know.
# This image is also the server in front of endpoints that read (OCR_ENGINE=openai). docs/deployment.md has the commands.
# scripts/prove_images runs every step below in a clean Debian, without a container engine.

FROM debian:13.6-slim AS build
# Debian's packages are not pinned, so that each build has the security updates. The base and all of Python are pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The dependencies come first: they stay in the builder's cache while only our code changes.
COPY pyproject.toml deploy/constraints-cpu.txt ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*project['dependencies'], *project['optional-dependencies'].get('remote', ()), sep='\n')" \
      > requirements.txt \
 && python3 -m venv /opt/ocr \
 && /opt/ocr/bin/pip install --no-cache-dir --requirement requirements.txt --constraint constraints-cpu.txt \
 && python3 -m venv tools \
 && tools/bin/pip install --no-cache-dir hatchling --constraint constraints-cpu.txt
COPY README.md LICENSE ./
COPY src src
RUN tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheels . \
 && /opt/ocr/bin/pip install --no-cache-dir --no-deps wheels/*.whl \
 && /opt/ocr/bin/pip uninstall --yes pip


FROM debian:13.6-slim
# Language data for Tesseract; `apt-cache search tesseract-ocr-` lists more. Empty: Latin, Chinese and Japanese only.
ARG LANGUAGES="ara ben ell heb hin kor rus tha"
# hadolint ignore=DL3008
RUN set -- tesseract-ocr tesseract-ocr-osd \
 && for language in $LANGUAGES; do set -- "$@" "tesseract-ocr-$language"; done \
 && apt-get update \
 && apt-get install --yes --no-install-recommends python3 tini "$@" \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ocr
COPY --from=build /opt/ocr /opt/ocr
# The server writes nothing outside /tmp, so the root may be read-only.
ENV PATH=/opt/ocr/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8001 \
    OCR_LOG_FORMAT=json \
    OCR_LOG_LEVEL=info
USER 10001:10001
EXPOSE 8001
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=1s \
    CMD ["python3", "-I", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
# tini is process 1: it passes signals on and reaps the processes that a killed worker leaves.
ENTRYPOINT ["tini", "--", "deepseek-ocr-mcp"]
CMD ["serve", "--transport", "http"]
