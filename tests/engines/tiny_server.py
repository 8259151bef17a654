"""`transformers serve` with a DeepSeek-OCR-2 of 0.3 MB and random weights: a real server of OpenAI's chat API.

It answers every question with some lines of nonsense, the same for the same page.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from socket import create_server

import httpx2
from tiny_deepseek import BOS, EOS, LANGUAGE, PAD, make_v2, write_tokenizer

from support import end_process, wait_until

START_TIMEOUT_S = 300  # torch and transformers, on two cores that many others use too
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint as `transformers serve` wants it, which ends its answers before long."""
    from transformers import DeepseekOcr2ImageProcessorPil, DeepseekOcr2Processor, PreTrainedTokenizerFast

    make_v2(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token=BOS, eos_token=EOS, pad_token=PAD
    )
    processor = DeepseekOcr2Processor(
        image_processor=DeepseekOcr2ImageProcessorPil(), tokenizer=tokenizer, chat_template=TEMPLATE
    )
    processor.save_pretrained(folder)
    generation = folder / "generation_config.json"
    told = json.loads(generation.read_text())
    told |= {"exponential_decay_length_penalty": [10, 1.5], "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 2}
    generation.write_text(json.dumps(told))
    return folder


def make_for_vllm(folder: Path) -> Path:
    """DeepSeek-OCR for `vllm --load-format dummy`: its own vision towers, which vLLM has no smaller ones of, and a
    language model of two layers. There are no weights; vLLM makes random ones.
    """
    write_tokenizer(folder)
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizerFast", **special}))
    size = 64  # 32 for each head: vLLM's attention on a CPU has nothing smaller
    language = {**LANGUAGE, "hidden_size": size, "architectures": ["DeepseekV2ForCausalLM"], "first_k_dense_replace": 1,
                "q_lora_rank": None, "kv_lora_rank": None, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0,
                "v_head_dim": 0, "use_mla": False}  # fmt: skip
    projector = {"model_type": "mlp_projector", "projector_type": "linear", "input_dim": 2048, "n_embed": size}
    config = {
        "architectures": ["DeepseekOCRForCausalLM"],
        "model_type": "deepseek_vl_v2",
        "candidate_resolutions": [[1024, 1024]],
        "global_view_pos": "head",
        "tile_tag": "2D",
        "language_config": language,
        "projector_config": projector,
        "vision_config": {"image_size": 1024, "model_type": "vision", "model_name": "deeplip_b_l"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@contextmanager
def served(command: Callable[[int], Sequence[str]], start_s: float, **environment: str) -> Iterator[str]:
    """The address of a server that is none of ours, while it runs.

    Args:
        command: what starts it on a port.
    """
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command(port), env={**os.environ, **environment}, stdout=log, stderr=log)

        def up() -> bool:
            if process.poll() is not None:
                log.seek(0)
                raise AssertionError(log.read().decode(errors="replace")[-3000:])
            try:
                return httpx2.get(f"http://127.0.0.1:{port}/health", timeout=60).status_code == 200
            except httpx2.TransportError:
                return False

        try:
            wait_until(up, start_s)
            yield f"http://127.0.0.1:{port}"
        finally:
            end_process(process)


def transformers_serve(folder: Path) -> AbstractContextManager[str]:
    """Its address, while it runs."""
    return served(
        lambda port: [
            *(sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)),
            *("--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)),
        ],
        START_TIMEOUT_S,
        HF_HUB_OFFLINE="1",
        CUDA_VISIBLE_DEVICES="",
    )
