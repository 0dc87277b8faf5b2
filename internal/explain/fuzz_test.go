package explain

import (
	"encoding/json"
	"testing"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// FuzzKey prints any bytes as the value of any key.
func FuzzKey(f *testing.F) {
	for t := range uint8(ondisk.NrKeyTypes + 1) {
		for _, n := range []int{0, 8, 48, 256} {
			v := make([]byte, n)
			for i := range v {
				v[i] = byte(i + 1)
			}
			f.Add(uint8(0), t, v)
			f.Add(uint8(13), t, make([]byte, n))
		}
	}
	member := ondisk.Member{UUID: ondisk.UUID{1}, NBuckets: 1000, BucketSize: 256}
	f.Fuzz(func(t *testing.T, b, typ uint8, val []byte) {
		val = val[:min(len(val), ondisk.MaxValBytes)&^7]
		kv := ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyType(typ), Pos: ondisk.Pos{Inode: uint64(typ) << 56, Offset: 8}, Size: 8}, Val: val}
		if len(val) >= ondisk.PosSize {
			kv.Pos = ondisk.DecodePos(val)
		}
		for _, env := range []*Env{
			{}, {Style: Style1_13}, {Escape: true, Members: []ondisk.Member{member}, Stale: func(ondisk.Ptr) bool { return true }},
			{Style: Style1_13, Super: &ondisk.Superblock{Version: ondisk.Version1_13}, Members: []ondisk.Member{member}, DevNames: []string{"a"}},
		} {
			text := Key(nil, env, ondisk.BtreeID(b), 0, kv)
			if len(text) > 4000+100*len(val) {
				t.Errorf("%d bytes of text for a value of %d", len(text), len(val))
			}
			if env.Escape {
				for _, c := range text {
					if c != '\n' && (c < ' ' || c > '~') {
						t.Fatalf("byte %#x in %q", c, text)
					}
				}
			}
			if _, err := json.Marshal(KeyJSON(env, ondisk.BtreeID(b), 0, kv)); err != nil {
				t.Error(err)
			}
		}
	})
}
