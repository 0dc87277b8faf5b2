package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// volume is an opened volume and the Env that prints it like its list.
type volume struct {
	trees *btree.Trees
	env   *Env
}

func open(t *testing.T, vols *testvol.Set, name string, style Style) volume {
	t.Helper()
	ctx := context.Background()
	set, err := members.Open(ctx, vols.Load(t, name), members.Options{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := journal.Load(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	v := volume{btree.New(set, state, btree.Config{}), NewEnv(set.SB, style)}
	for i := range set.Devs {
		// What the devices were called when the lists were made.
		n := name + ".img"
		if len(set.Devs) > 1 {
			n = name + "." + itoa(uint64(i)) + ".img"
		}
		v.env.DevNames = append(v.env.DevNames, n)
	}
	return v
}

// keys calls fn with every key of a btree.
func (v volume) keys(t *testing.T, b ondisk.BtreeID, level int, fn func(ondisk.KV)) {
	t.Helper()
	c := v.trees.LevelCursor(context.Background(), b, level, ondisk.PosMin, ondisk.SPosMax)
	for {
		kv, ok := c.Next()
		if !ok {
			break
		}
		fn(kv)
	}
	if err := c.Err(); err != nil {
		t.Fatalf("btree %s: %v", b, err)
	}
}

var (
	logLine   = regexp.MustCompile(`^[a-z_]+\.\.\. done$`)
	inlineGot = regexp.MustCompile(`(datalen \d+:) [0-9a-f]*$`)
	inlinePtr = regexp.MustCompile(`(datalen \d+:) *PTR$`)
)

// sections cuts a list into its parts.
func sections(text string) map[string][]string {
	m := map[string][]string{}
	head := ""
	for _, l := range strings.Split(text, "\n") {
		if h, ok := strings.CutPrefix(l, "== "); ok {
			head = h
			continue
		}
		if !logLine.MatchString(l) {
			m[head] = append(m[head], l)
		}
	}
	for h, l := range m {
		for len(l) > 0 && l[len(l)-1] == "" {
			l = l[:len(l)-1]
		}
		m[h] = l
	}
	return m
}

// lossy replaces what is no UTF-8 as the tools do: a whole cut-off sequence by
// one replacement character.
func lossy(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			for n < len(b) && n < 4 && !utf8.FullRune(b[:n]) && b[n]&0xc0 == 0x80 && validPrefix(b[:n+1]) {
				n++
			}
		}
		s.WriteRune(r)
		b = b[n:]
	}
	return s.String()
}

// validPrefix: some bytes can follow b to make it a rune.
func validPrefix(b []byte) bool { return !utf8.FullRune(b) }

// list is a volume of which there is a list, and whose it is.
type list struct {
	name  string
	style Style
}

func TestLists(t *testing.T) {
	checkLists(t, testvol.Small(t), []list{
		{"plain", Style1_13}, {"reflink", Style1_13}, {"aclquota", Style1_13}, {"geometry", Style1_13}, {"replicas2", Style1_13}, {"snapshots", Style1_13},
		{"up39reflink", Style1_39}, {"up39snapshots", Style1_39}, {"upc39plain", Style1_39}, {"v39casefold", Style1_39}, {"v39ec", Style1_39}, {"v39zstd", Style1_39},
	})
}

func checkLists(t *testing.T, vols *testvol.Set, lists []list) {
	for _, c := range lists {
		t.Run(c.name, func(t *testing.T) {
			v := open(t, vols, c.name, c.style)
			want := sections(string(vols.Text(t, c.name, "list")))
			for b := ondisk.BtreeID(0); b < ondisk.NrBtrees; b++ {
				var got []byte
				v.keys(t, b, 0, func(kv ondisk.KV) {
					got = append(Key(got, v.env, b, 0, kv), '\n')
				})
				w := w{Env: v.env}
				name := w.btree(uint32(b))
				compare(t, name, want[name], got, c.style)
				delete(want, name)
			}
			for name, l := range want {
				if b, mode, ok := strings.Cut(name, " mode "); ok {
					if mode == "nodes" {
						v.nodes(t, b, l)
					}
				} else if name != "" && len(l) > 0 {
					t.Errorf("the list has a btree %q", name)
				}
			}
		})
	}
}

// compare checks the lines of one btree.
func compare(t *testing.T, name string, want []string, got []byte, style Style) {
	t.Helper()
	g := sections(lossy(got))[""]
	if len(g) != len(want) {
		t.Errorf("%s: %d lines, want %d", name, len(g), len(want))
	}
	bad := 0
	for i := range min(len(g), len(want)) {
		wl, gl := want[i], g[i]
		if style == Style1_13 {
			// The list has an address of the printing process here.
			wl, gl = inlinePtr.ReplaceAllString(wl, "$1"), inlineGot.ReplaceAllString(gl, "$1")
		}
		if wl != gl {
			if bad++; bad <= 3 {
				t.Errorf("%s: line %d = %q, want %q", name, i+1, gl, wl)
			}
		}
	}
	if bad > 3 {
		t.Errorf("%s: %d more lines differ", name, bad-3)
	}
}

// nodes compares the pointers to the nodes of a btree, lowest level first, the
// root's last.
func (v volume) nodes(t *testing.T, btree string, want []string) {
	t.Helper()
	b, ok := ondisk.ParseBtreeID(btree)
	if !ok {
		t.Fatalf("btree %q", btree)
	}
	root, err := v.trees.Root(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for level := 1; level <= root.Level; level++ {
		v.keys(t, b, level, func(kv ondisk.KV) { got = append(Key(got, v.env, b, level, kv), '\n') })
	}
	kv := ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyBtreePtrV2, Pos: root.Max}, Val: root.Info.Ptr.Append(nil)}
	got = append(Key(got, v.env, b, root.Level+1, kv), '\n')
	compare(t, btree+" nodes", want, got, v.env.Style)
}

// TestRealKeys decodes, checks, encodes and documents every key of every volume.
func TestRealKeys(t *testing.T) {
	for _, name := range testvol.Names(t) {
		if testvol.Encrypted(name) {
			continue // needs a passphrase, and has no other kinds of keys
		}
		t.Run(name, func(t *testing.T) {
			v := open(t, testvol.Small(t), name, Style1_39)
			check := &ondisk.CheckContext{
				Version: v.env.Super.Version, NodeSectors: uint32(v.env.Super.NodeSectors()), Writing: true,
				Member: func(dev uint8) (bucket, first, n uint64, ok bool) {
					m := v.env.member(uint32(dev))
					if m == nil {
						return 0, 0, 0, false
					}
					return uint64(m.BucketSize), uint64(m.FirstBucket), m.NBuckets, true
				},
			}
			n := 0
			for b := ondisk.BtreeID(0); b < ondisk.NrBtrees; b++ {
				for level := 0; level <= ondisk.MaxLevel; level++ {
					root, err := v.trees.Root(context.Background(), b)
					if err != nil {
						t.Fatal(err)
					}
					if root == nil || level > root.Level {
						break
					}
					v.keys(t, b, level, func(kv ondisk.KV) {
						n++
						if err := ondisk.CheckKey(check, b, level, kv); err != nil {
							t.Errorf("CheckKey(%s %s %s) = %v", b, kv.Type, kv.Pos, err)
						}
						if d := KeyJSON(v.env, b, level, kv); d.Error != "" {
							t.Errorf("KeyJSON(%s %s %s): %s", b, kv.Type, kv.Pos, d.Error)
						} else if _, err := json.Marshal(d); err != nil {
							t.Errorf("JSON of %s %s %s: %v", b, kv.Type, kv.Pos, err)
						}
						if enc, ok := reencode(kv, v.env.Super.Version); ok && !bytes.Equal(enc, kv.Val) {
							t.Errorf("%s %s %s: encodes to\n%x, want\n%x", b, kv.Type, kv.Pos, enc, kv.Val)
						}
					})
				}
			}
			if n == 0 {
				t.Error("no keys")
			}
		})
	}
}

// reencode decodes and encodes a value. Types that are trivial are left out.
func reencode(kv ondisk.KV, v ondisk.Version) ([]byte, bool) {
	switch kv.Type {
	case ondisk.KeyBtreePtrV2:
		p, _ := ondisk.DecodeBtreePtr(kv)
		if p.Reconcile != 0 {
			return nil, false // the order of entries is not kept
		}
		enc := p.Append(nil)
		copy(enc[:8], kv.Val) // mem_ptr is garbage on disk
		return enc, true
	case ondisk.KeyInodeV3:
		x, _ := ondisk.DecodeInode(kv)
		return x.Append(nil), true
	case ondisk.KeyDirent:
		x, _ := ondisk.DecodeDirent(kv)
		return x.Append(nil), true
	case ondisk.KeyXattr:
		x, _ := ondisk.DecodeXattr(kv)
		return x.Append(nil), true
	case ondisk.KeyExtent:
		var enc []byte
		_ = ondisk.ExtentEntries(kv.Val, nil, func(e ondisk.ExtentEntry) bool {
			at := len(enc)
			enc = e.Append(enc)
			if e.Type == ondisk.XECrc32 {
				enc[at+2] |= kv.Val[at+2] & 0x80 // an unused bit with garbage
			}
			return true
		})
		return enc, true
	case ondisk.KeyAllocV4:
		x, _ := ondisk.DecodeAlloc(kv)
		return x.Append(nil, v), true
	case ondisk.KeyBackpointer:
		x, _ := ondisk.DecodeBackpointer(kv.Val, v)
		return x.Append(nil, v), true
	case ondisk.KeyStripe:
		x, _ := ondisk.DecodeStripe(kv.Val)
		return x.Append(nil), true
	case ondisk.KeySubvolume:
		x, _ := ondisk.DecodeSubvolume(kv.Val)
		return x.Append(nil), true
	case ondisk.KeySnapshot:
		x, _ := ondisk.DecodeSnapshot(kv.Val)
		return x.Append(nil), true
	case ondisk.KeyAccounting:
		c, n, _ := ondisk.DecodeCounters(kv.Val)
		form := ondisk.AccountingFormOf(v)
		a, _ := ondisk.DecodeAccountingPos(kv.Pos, form)
		if a.Pos(form) != kv.Pos {
			return nil, true
		}
		return c.Append(nil, n), true
	}
	return nil, false
}
