package bcachefs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// zeroNodes overwrites the btree nodes that are chosen with zeros, everywhere
// they or old versions of them stand.
func zeroNodes(t *testing.T, devs []block.Reader, choose func(h ondisk.NodeHeader) bool) ([]block.Reader, int) {
	t.Helper()
	var out []block.Reader
	n := 0
	for _, d := range devs {
		sb, err := build.ReadSuper(d, ondisk.SBSector)
		if err != nil {
			t.Fatal(err)
		}
		magic := ondisk.NodeMagic(sb.UUID)
		o := block.NewOverlay(d)
		size := int64(sb.NodeSectors()) * 512
		head := make([]byte, ondisk.NodeHeaderSize)
		zero := make([]byte, size)
		for off := int64(0); off+size <= d.Size(); off += size {
			if _, err := d.ReadAt(head, off); err != nil {
				t.Fatal(err)
			}
			if binary.LittleEndian.Uint64(head[16:]) != magic {
				continue
			}
			h, err := ondisk.DecodeNodeHeader(head)
			if err != nil {
				t.Fatal(err)
			}
			if choose(h) {
				if _, err := o.WriteAt(zero, off); err != nil {
					t.Fatal(err)
				}
				n++
			}
		}
		out = append(out, o)
	}
	return out, n
}

// survivors opens a damaged volume, with or without salvage, and says how many
// files are as they were, how many of those are under suspicion, and how many
// give an error. A file that is wrong without either fails the test.
func survivors(t *testing.T, name string, devs []block.Reader, want []testvol.Entry, salvage bool) (intact, suspect, failed int) {
	t.Helper()
	o := options(t, name)
	o.Salvage, o.Warn = salvage, func(error) {}
	v, err := bcachefs.Open(context.Background(), devs, o)
	if err != nil {
		t.Logf("%s: %v", name, err)
		return 0, 0, len(want)
	}
	got := map[string]testvol.Entry{}
	lost := false
	doubtful := func(p string) bool {
		g, ok := got[p]
		return ok && v.Files().Suspect(bcachefs.NodeID{Inode: g.Ino}) != nil
	}
	for _, e := range manifest(t, v.Root()) {
		if e.ReadDirErr != "" {
			lost = true
		} else {
			got[e.Path] = e
		}
	}
	for _, e := range want {
		g, ok := got[e.Path]
		doubt := doubtful(e.Path)
		gone := e.Path // the topmost directory that is missing
		for !ok && path.Dir(gone) != "." && !doubtful(path.Dir(gone)) {
			gone = path.Dir(gone)
		}
		switch {
		case !ok && (lost || doubtful(path.Dir(gone))), ok && strings.Contains(g.String(), "ERR:"):
			failed++
		case !ok:
			t.Errorf("%s: %s is missing without an error", name, e.Path)
		case len(testvol.Diff([]testvol.Entry{e}, []testvol.Entry{g}, testvol.QuirksOf(name))) == 0:
			intact++
			if doubt {
				suspect++
			}
		case !doubt:
			t.Errorf("%s: %s is wrong without an error or a suspicion: %s", name, e.Path, g)
		default:
			failed++
		}
	}
	return intact, suspect, failed
}

// TestRescue: interior nodes are gone, the leaves are there. In salvage mode a
// scan of the devices finds them; nearly everything is read, and is suspect.
// Strict, what hangs on the node is an error.
func TestRescue(t *testing.T) {
	set := testvol.Small(t)
	for _, c := range []struct {
		name  string
		btree ondisk.BtreeID
	}{
		{"plain", ondisk.BtreeInodes}, {"snapshots", ondisk.BtreeInodes}, {"replicas2", ondisk.BtreeInodes},
		{"geometry", ondisk.BtreeExtents}, {"v39casefold", ondisk.BtreeDirents}, {"v39plain", ondisk.BtreeExtents},
		{"v39plain", ondisk.BtreeDirents}, {"v39plain", ondisk.BtreeXattrs}, {"v39repl", ondisk.BtreeExtents},
	} {
		t.Run(fmt.Sprintf("%s %v", c.name, c.btree), func(t *testing.T) {
			t.Parallel()
			want := set.Manifest(t, c.name, "manifest")
			devs, n := zeroNodes(t, set.Load(t, c.name), func(h ondisk.NodeHeader) bool { return h.Btree() == int(c.btree) && h.Level() > 0 })
			if n == 0 {
				t.Fatal("the volume has no interior node of the btree: choose another")
			}
			intact, suspect, failed := survivors(t, c.name, devs, want, true)
			t.Logf("salvage: %d of %d intact, %d of them suspect, %d failed", intact, len(want), suspect, failed)
			if intact*100 < len(want)*99 {
				t.Errorf("salvage: %d of %d files intact, want nearly all", intact, len(want))
			}
			if suspect == 0 {
				t.Error("salvage: no file is suspect")
			}
			intact, suspect, failed = survivors(t, c.name, devs, want, false)
			t.Logf("strict: %d intact, %d suspect, %d failed", intact, suspect, failed)
			if suspect > 0 || failed == 0 {
				t.Errorf("strict: %d files suspect, %d failed, want none and some", suspect, failed)
			}
		})
	}
}

// TestRescueSynthetic: every interior node of every btree, and the root, gone,
// in plain and in encrypted volumes, with old versions of leaves lying around.
func TestRescueSynthetic(t *testing.T) {
	const files = 60
	for _, cfg := range []build.Config{{KeysPerLeaf: 5, Fanout: 4}, {KeysPerLeaf: 5, Fanout: 4, Key: &crypt.Key{4}}} {
		v := build.New(cfg)
		want := manyFiles(v, files)
		for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeInodes, ondisk.BtreeDirents} {
			// An old leaf of everything, as it was when the tree was small: empty.
			v.Write(build.Node{Btree: b, NodeSeq: 1})
			v.Roots[b] = tree(v, b, func(n *build.Node) {
				n.NodeSeq = 2
				if n.Level > 0 {
					n.Damage = func(b []byte) { clear(b) }
				}
			})
		}
		devs := v.Devices()
		if _, err := readFile(t, open(t, devs, bcachefs.Options{Warn: func(error) {}}), "/file001"); errs.Errno(err) != syscall.EIO {
			t.Errorf("strict: read = %v, want EIO", err)
		}
		var warned []string
		vol := open(t, devs, bcachefs.Options{Salvage: true, Warn: func(err error) { warned = append(warned, err.Error()) }})
		wantFiles(t, vol, want)
		id, err := vol.Root().Resolve(context.Background(), "/file001")
		if err != nil || vol.Files().Suspect(id) == nil {
			t.Errorf("what was found by scanning is not suspect (%v)", err)
		}
		if !strings.Contains(strings.Join(warned, "\n"), "scanning the devices for btree nodes") {
			t.Errorf("warnings %q, want one of the scan", warned)
		}
	}
}

// TestJournalLost: an unclean volume without a journal has no roots. In salvage
// mode the leaves are found by scanning; otherwise it is refused.
func TestJournalLost(t *testing.T) {
	set := testvol.Small(t)
	for _, name := range []string{"crash", "v39crash", "crash2dev"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var devs []block.Reader
			for _, d := range set.Load(t, name) {
				sb, err := build.ReadSuper(d, ondisk.SBSector)
				if err != nil {
					t.Fatal(err)
				}
				m, err := sb.Member(int(sb.DevIdx))
				if err != nil {
					t.Fatal(err)
				}
				buckets, err := sb.JournalBuckets()
				if err != nil {
					t.Fatal(err)
				}
				o := block.NewOverlay(d)
				for _, b := range buckets {
					if _, err := o.WriteAt(make([]byte, int(m.BucketSize)*512), int64(b)*int64(m.BucketSize)*512); err != nil {
						t.Fatal(err)
					}
				}
				devs = append(devs, o)
			}
			o := options(t, name)
			o.Warn = func(error) {}
			if _, err := bcachefs.Open(context.Background(), devs, o); err == nil || !strings.Contains(err.Error(), "dirty_but_no_journal_entries") {
				t.Errorf("strict: Open = %v, want dirty_but_no_journal_entries", err)
			}
			// What was only in the journal is gone; count what is left of the rest.
			intact, suspect, failed := survivors(t, name, devs, set.Manifest(t, name, "manifest-recovered"), true)
			t.Logf("%d intact, %d suspect, %d failed", intact, suspect, failed)
			if suspect != intact {
				t.Errorf("%d of %d files are suspect, want all", suspect, intact)
			}
		})
	}
}

// TestDamageStaysLocal: one leaf of many is gone; the files that do not need it
// are read, those that do say so.
func TestDamageStaysLocal(t *testing.T) {
	const files = 60
	for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeInodes, ondisk.BtreeDirents} {
		t.Run(b.String(), func(t *testing.T) {
			v := build.New(build.Config{KeysPerLeaf: 7, Fanout: 20})
			want := manyFiles(v, files)
			nth := 0
			v.Roots[b] = tree(v, b, func(n *build.Node) {
				if nth++; n.Level == 0 && nth == 3 {
					n.Damage = func(b []byte) { clear(b) }
				}
			})
			vol := open(t, v.Devices(), bcachefs.Options{Warn: func(error) {}})
			good := 0
			for p, data := range want {
				got, err := readFile(t, vol, p)
				switch {
				case err == nil && bytes.Equal(got, data):
					good++
				case err == nil:
					t.Errorf("%s is wrong without an error", p)
				case errs.Errno(err) != syscall.EIO:
					t.Errorf("%s: %v is errno %v, want EIO", p, err, errs.Errno(err))
				}
			}
			if good != files-7 {
				t.Errorf("%d of %d files are read, want all but the 7 of the leaf", good, files)
			}
		})
	}
}
