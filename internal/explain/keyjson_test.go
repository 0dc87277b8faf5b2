package explain

import (
	"encoding/json"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestKeyJSON pins the names of fields.
func TestKeyJSON(t *testing.T) {
	env := open(t, testvol.Small(t), "plain", Style1_39).env
	for _, c := range []struct{ key, want string }{
		{"extents extent 4136:8:U32_MAX 8 1e0e0005ec4c4f0d01b8030000000000 ",
			`{"btree":"extents","level":0,"type":"extent","pos":{"inode":4136,"offset":8,"snapshot":4294967295},"size":8,"u64s":7,"value":{"entries":[` +
				`{"crc":{"bits":32,"compressed_size":8,"uncompressed_size":8,"offset":0,"nonce":0,"csum_type":"crc32c","compression":"none","csum":"ec4c4f0d"}},` +
				`{"ptr":{"dev":0,"sector":15232,"gen":0,"bucket":59,"bucket_offset":128}}],"durability":1}}`},
		{"reflink reflink_v 0:136:0 128 020000000000000011c0010000000000 ",
			`{"btree":"reflink","level":0,"type":"reflink_v","pos":{"inode":0,"offset":136,"snapshot":0},"size":128,"u64s":7,"value":{"refcount":2,"entries":[` +
				`{"ptr":{"dev":0,"sector":7169,"gen":0,"bucket":28,"bucket_offset":1}}],"durability":1}}`},
		{"dirents dirent 4096:200:U32_MAX 0 06100000000000000861ff6300000000",
			`{"btree":"dirents","level":0,"type":"dirent","pos":{"inode":4096,"offset":200,"snapshot":4294967295},"u64s":7,"value":{"name":"a` + "\ufffd" + `c","name_hex":"61ff63","type":"reg","inode":4102}}`},
		{"dirents dirent 4096:300:U32_MAX 0 02000000010000001073763100000000",
			`{"btree":"dirents","level":0,"type":"dirent","pos":{"inode":4096,"offset":300,"snapshot":4294967295},"u64s":7,"value":{"name":"sv1","type":"subvol","child_subvol":2,"parent_subvol":1}}`},
		{"subvolumes subvolume 0:7:0 0 03000000fdffffff1a1000000000000002000000010000000000000000000000" + "0000000000000000",
			`{"btree":"subvolumes","level":0,"type":"subvolume","pos":{"inode":0,"offset":7,"snapshot":0},"u64s":10,"value":{"creation_parent":2,"flags":3,"fs_path_parent":1,"is_snapshot":true,` +
				`"otime":"` + (&w{Env: env}).time(0) + `","read_only":true,"root":4122,"snapshot":4294967293,"state":"live"}}`},
		{"accounting accounting 0:0:16843778 0 ffffffffffffffff",
			`{"btree":"accounting","level":0,"type":"accounting","pos":{"inode":0,"offset":0,"snapshot":16843778},"u64s":6,"version":77,"value":{"type":"replicas","data_type":"user","nr_required":1,"devs":[0],"counters":[-1]}}`},
		{"extents whiteout 4136:8:U32_MAX 0", `{"btree":"extents","level":0,"type":"whiteout","pos":{"inode":4136,"offset":8,"snapshot":4294967295},"u64s":5}`},
		{"xattrs xattr 4136:8:U32_MAX 0 0103ff0000000000", `{"btree":"xattrs","level":0,"type":"xattr","pos":{"inode":4136,"offset":8,"snapshot":4294967295},"u64s":6,` +
			`"error":"xattr_val_size_too_small: found name of 3 and value of 255 bytes in 8"}`},
	} {
		b, kv := parseKey(t, c.key)
		got, err := json.Marshal(KeyJSON(env, b, 0, kv))
		if err != nil || string(got) != c.want {
			t.Errorf("KeyJSON(%s) =\n%s, %v, want\n%s", c.key, got, err, c.want)
		}
	}
}

func TestEscape(t *testing.T) {
	_, kv := parseKey(t, "dirents dirent 4096:203:U32_MAX 0 06100000000000000801020a5cc3a9ff")
	got := string(Key(nil, &Env{Escape: true}, 2, 0, kv))
	want := `u64s 7 type dirent 4096:203:U32_MAX len 0 ver 0  : \x01\x02\x0a\x5c\xc3\xa9\xff -> 4102 type reg`
	if got != want {
		t.Errorf("Key = %s, want %s", got, want)
	}
}
