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
plaintext="v39casefold" # compressed without the dictionary, so that any zstd reader opens them

# The tree writer draws all its incompressible data from one pool of random
# bytes; as a dictionary it halves every image.
python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(262147))' > tree.dict

tmp=$(mktemp); trap 'rm -f "$tmp"' EXIT
for v in $volumes; do
	for f in "$from/$v".img.zst "$from/$v".[0-9].img.zst; do
		[ -e "$f" ] || continue
		dict=(-D tree.dict)
		case " $plaintext " in *" $v "*) dict=() ;; esac
		zstd -q -d -f --long=27 "$f" -o "$tmp"
		zstd -q --ultra -22 --long=27 -f "${dict[@]}" "$tmp" -o "$(basename "$f")"
		zstd -q -d --long=27 "${dict[@]}" -c "$(basename "$f")" | cmp - "$tmp"
		chmod 644 "$(basename "$f")"
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
