"""Write the characters of a text as tokens: `python prepare.py TEXT FOLDER` makes FOLDER/text.bin, uint16."""

import sys
from pathlib import Path

import numpy as np

text, folder = Path(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
tokens = np.frombuffer(text.read_text().encode("ascii", "replace"), np.uint8).astype(np.uint16)
tokens.tofile(folder / "text.bin")
print(f"{folder / 'text.bin'}: {len(tokens)} tokens")
