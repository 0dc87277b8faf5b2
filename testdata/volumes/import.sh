#!/usr/bin/env bash
# Makes the small volumes of this folder from the full set (README.md says what
# they are): import.sh FROM, where FROM is the folder with NAME.img.zst,
# NAME.manifest… and lists/. Needs zstd and python3. Safe to run again.
set -euo pipefail
from=$(cd "$1" && pwd)
cd "$(dirname "$0")"
volumes="plain lz4 zstd gzip bgcomp crc64 xxhash nocsum geometry nocow
	replicas2 stripe3 snapshots reflink aclquota crash crash2dev enczstdwide
	v39plain v39zstd v39repl v39ec v39casefold v39crash v39source v39image
	up39plain up39snapshots up39reflink up39replicas2 up39aclquota up39zstd up39nocow
	upc39plain upc39snapshots upc39reflink"
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT

cat > "$tmp/sparse.py" <<'E2'
# sparse.py pack|unpack IN OUT: the format of README.md
import sys
mode, src, dst = sys.argv[1:]
Z = b"\0" * 4096
if mode == "pack":
    size, runs, data = 0, [], []
    with open(src, "rb") as f:
        while b := f.read(4096):
            if b != Z[:len(b)]:
                if runs and runs[-1][0] + runs[-1][1] == size: runs[-1][1] += len(b)
                else: runs.append([size, len(b)])
                data.append(b)
            size += len(b)
    with open(dst, "wb") as f:
        f.write(b"sparse %d %d\n" % (size, len(runs)) + b"".join(b"%d %d\n" % tuple(r) for r in runs) + b"".join(data))
else:
    with open(src, "rb") as f, open(dst, "wb") as g:
        _, size, n = f.readline().split()
        runs = [tuple(map(int, f.readline().split())) for _ in range(int(n))]
        g.truncate(int(size))
        for off, length in runs: g.seek(off); g.write(f.read(length))
E2

# The tree writer draws all its incompressible data from one pool of random
# bytes; as a dictionary it halves every image.
python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(262147))' > tree.dict

for v in $volumes; do
	for f in "$from/$v".img.zst "$from/$v".[0-9].img.zst; do
		[ -e "$f" ] || continue
		zstd -q -d -f --long=27 "$f" -o "$tmp/img"
		if [ "$v" = v39casefold ]; then # as it is: for tests of compressed images
			zstd -q --ultra -22 -f "$tmp/img" -o "$v.img.zst"
			continue
		fi
		out=$(basename "$f" .img.zst).sparse.zst
		python3 "$tmp/sparse.py" pack "$tmp/img" "$tmp/sparse"
		zstd -q --ultra -22 --long=27 -D tree.dict -f "$tmp/sparse" -o "$out"
		zstd -q -d -D tree.dict -f "$out" -o "$tmp/sparse2" && python3 "$tmp/sparse.py" unpack "$tmp/sparse2" "$tmp/img2" && cmp "$tmp/img" "$tmp/img2"
		chmod 644 "$out"
	done
	for f in "$from/$v".manifest "$from/$v".manifest.* "$from/$v".manifest-recovered "$from/$v".without-*.manifest "$from/$v".show-super; do
		[ -e "$f" ] || continue
		zstd -q --ultra -22 -f "$f" -o "$(basename "$f").zst"
		chmod 644 "$(basename "$f").zst"
	done
	for f in "$from/$v".manifest-statfs "$from/lists/$v".list.zst; do
		[ -e "$f" ] || continue
		install -m 644 "$f" "$(basename "$f")"
	done
done
