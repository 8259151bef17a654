#!/usr/bin/env bash
# A Word document in which a sentence was moved while changes were tracked: it is deleted here and inserted there.
# A good guess: a reader gives the sentence once, or at both places.
# Seen: python-docx gives it nowhere, docx2txt and docx2python twice, mammoth and pandoc once.
. "$(dirname "$0")/common.sh"
python_with python-docx==1.2.0 docx2txt==0.9 docx2python==3.7.1 mammoth==1.13.0 pypandoc_binary==1.17
python_runs <<'EOF'
import zipfile

import docx
import docx2txt
import mammoth
import pypandoc
from docx2python import docx2python
from finding import as_described, versions

versions("python-docx", "docx2txt", "docx2python", "mammoth", "pypandoc_binary")
SENTENCE = "The fee is due in May."
BY = 'w:author="A" w:date="2026-01-01T00:00:00Z"'

written = docx.Document()
for words in ("First.", "moveFrom", "Last.", "moveTo"):
    written.add_paragraph(words)
written.save("plain.docx")
with zipfile.ZipFile("plain.docx") as plain, zipfile.ZipFile("moved.docx", "w") as moved:
    for name in plain.namelist():
        part = plain.read(name).decode("utf-8") if name == "word/document.xml" else plain.read(name)
        if isinstance(part, str):
            for number, kind in enumerate(("moveFrom", "moveTo"), 1):
                around = [
                    f'<w:{kind}RangeStart w:id="{number}" {BY} w:name="move1"/>',
                    f'<w:{kind} w:id="{number + 2}" {BY}><w:r><w:t>{SENTENCE}</w:t></w:r></w:{kind}>',
                    f'<w:{kind}RangeEnd w:id="{number}"/>',
                ]
                part = part.replace(f"<w:r><w:t>{kind}</w:t></w:r>", "".join(around))
        moved.writestr(name, part)

texts = {
    "python-docx": "\n".join(paragraph.text for paragraph in docx.Document("moved.docx").paragraphs),
    "docx2txt": docx2txt.process("moved.docx"),
    "docx2python": docx2python("moved.docx").text,
    "mammoth": mammoth.extract_raw_text(open("moved.docx", "rb")).value,
    "pandoc": pypandoc.convert_file("moved.docx", "plain"),
}
counts = {"python-docx": 0, "docx2txt": 2, "docx2python": 2, "mammoth": 1, "pandoc": 1}
for name, text in texts.items():
    as_described(f"{name}: the sentence that was moved", text.count(SENTENCE), counts[name])
    as_described(f"{name}: the others", [text.count(words) for words in ("First.", "Last.")], [1, 1])
EOF
