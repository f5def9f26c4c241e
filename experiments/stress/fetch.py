"""A download, as korbert's doors do it: fetch.py ADDRESS CHECKSUM BYTES FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

from korbert.data.download import RemoteFile, fetch
from korbert.errors import KorbertError

if __name__ == "__main__":
    address, checksum, size, folder = sys.argv[1:]
    try:
        fetch(RemoteFile("file.bin", address, checksum, int(size)), Path(folder))
    except KorbertError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
