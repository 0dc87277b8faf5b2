#!/usr/bin/env bash
# Makes the files of this folder: make.sh VOLUMES ORACLE (README.md). Needs zstd,
# the oracle set up, and about two minutes.
set -euo pipefail
volumes=$(cd "$1" && pwd); oracle=$(cd "$2" && pwd)
cd "$(dirname "$0")"
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
clean() { grep -a -v -E '\.\.\. done$|^starting version|^recovering from|^journal read done|^going read-write|^unshutdown complete|^insufficient writeable|^rw journal devs' |
	sed -E 's/(datalen [0-9]+:) *0x[0-9a-f]+hN/\1/' || true; }
unpack() { for f in "$volumes/$1".img.zst "$volumes/$1".?.img.zst; do
	if [ -f "$f" ]; then zstd -qdf --long=27 --sparse "$f" -o "$tmp/$(basename "$f" .zst)"; echo "$tmp/$(basename "$f" .zst)"; fi
done; }
export TZ=UTC
for v in replicas2 crash; do
	"$oracle/tools" list_journal -a $(unpack $v) 2>/dev/null | clean | zstd -19 -q -f -o $v.journal.zst
done
for v in plain geometry snapshots replicas2 nocsum; do
	d=$(unpack $v)
	for b in extents inodes dirents xattrs alloc subvolumes snapshots lru freespace need_discard backpointers bucket_gens snapshot_trees deleted_inodes logged_ops accounting; do
		modes="formats nodes"
		case $b in xattrs | subvolumes | snapshots | lru | need_discard | deleted_inodes | logged_ops) modes="$modes nodes-ondisk" ;; esac
		for m in $modes; do echo "== $b mode $m"; "$oracle/tools" list -b $b -m $m $d 2>/dev/null | clean; done
	done | zstd -19 -q -f -o $v.modes.zst
done
rm -f "$tmp"/*.img
mkdir "$tmp/host"
cp "$volumes/tree.py" "$tmp/host"
for f in "$volumes"/*.img.zst; do
	n=$(basename "$f" .zst)
	case $n in v39* | up* | crash*) continue ;; esac
	zstd -qdf --long=27 --sparse "$f" -o "$tmp/host/$n"
	chmod u+w "$tmp/host/$n"
done
cat > "$tmp/script" <<'S'
. /r/env
for f in /host/*.img; do
	n=${f##*/}; n=${n%.img}
	case $n in
	*.0) n=${n%.0}; d=; for g in /host/$n.?.img; do l=$(losetup -f); losetup $l $g; d=$d:$l; done; d=${d#:} ;;
	*.[1-9]) continue ;;
	*) d=$(losetup -f); losetup $d $f ;;
	esac
	case $n in enc*) echo "correct horse" | R sh -c "keyctl link @u @s; bcachefs unlock -k user $d" ;; esac
	R mount -t bcachefs -o ro,nochanges $d /mnt || continue
	echo "$n $(R python3 /host/tree.py statfs /mnt)" >> /host/statfs.txt
	{ echo "== $n"; R bcachefs fs usage /mnt; echo "== $n -h"; R bcachefs fs usage -h /mnt; } >> /host/usage.txt
	umnt
	for l in $(echo $d | tr : ' '); do losetup -d $l; done
done
S
HOSTDIR=$tmp/host VM_TIMEOUT=600 "$oracle/vm" "$tmp/script" > /dev/null
cp "$tmp/host/usage.txt" usage-1.13.txt
cp "$tmp/host/statfs.txt" statfs.txt
