package data

import (
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// cutFront drops the first n sectors of an extent key (chapter 05 section 4):
// nothing on disk moves, the entries say where the rest is. n must be less than
// the size.
func cutFront(kv ondisk.KV, n uint32, sizes *ondisk.ExtentTypeSizes) (ondisk.KV, error) {
	if n == 0 {
		return kv, nil
	}
	kv.Size -= n
	switch kv.Type {
	case ondisk.KeyExtent, ondisk.KeyReflinkV:
		val, head := kv.Val, []byte(nil)
		if kv.Type == ondisk.KeyReflinkV {
			if len(val) < 8 {
				return kv, errs.Corruptf("bkey_val_size_too_small", "reflink_v of %d bytes", len(val))
			}
			head, val = val[:8], val[8:]
		}
		out := append([]byte(nil), head...)
		crc := false
		err := ondisk.ExtentEntries(val, sizes, func(e ondisk.ExtentEntry) bool {
			switch e.Type {
			case ondisk.XECrc32, ondisk.XECrc64, ondisk.XECrc128:
				crc = true
				e.Crc.Offset += n
			case ondisk.XEPtr:
				if !crc {
					e.Ptr.Offset += uint64(n)
				}
			}
			out = e.Append(out)
			return true
		})
		if err != nil {
			return kv, err
		}
		kv.Val = out
	case ondisk.KeyReflinkP:
		p, err := ondisk.DecodeReflinkP(kv.Val)
		if err != nil {
			return kv, err
		}
		p.Idx += uint64(n)
		kv.Val = p.Append(nil)
	case ondisk.KeyInlineData:
		kv.Val = append([]byte(nil), kv.Val[min(len(kv.Val), int(n)*512):]...)
	}
	return kv, nil
}

// cutBack makes an extent key end at a sector inside of it.
func cutBack(kv ondisk.KV, end uint64) ondisk.KV {
	start := kv.Start().Offset
	kv.Pos.Offset = end
	kv.Size = uint32(end - start)
	if kv.Type == ondisk.KeyInlineData {
		kv.Val = kv.Val[:min(len(kv.Val), int(kv.Size)*512)]
	}
	return kv
}

// allocated: the key counts in an inode's sectors (chapter 05 section 1).
func allocated(t ondisk.KeyType) bool {
	switch t {
	case ondisk.KeyError, ondisk.KeyExtent, ondisk.KeyReservation, ondisk.KeyReflinkP, ondisk.KeyReflinkV, ondisk.KeyInlineData, ondisk.KeyIndirectInlineData:
		return true
	}
	return false
}

// CutFront drops the first n sectors of an extent key.
func CutFront(kv ondisk.KV, n uint32, sizes *ondisk.ExtentTypeSizes) (ondisk.KV, error) {
	return cutFront(kv, n, sizes)
}
