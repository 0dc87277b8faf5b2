package bcachefs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

// tarEntry is an entry of a made archive.
type tarEntry struct {
	h    tar.Header
	data string
}

func makeTar(t *testing.T, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.h
		h.Size, h.Format = int64(len(e.data)), tar.FormatPAX
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func formatTar(t *testing.T, b []byte) (*bcachefs.Volume, error) {
	t.Helper()
	d := bcachefs.FormatDevice{Device: block.NewSparse("x.img", 96<<20)}
	_, err := bcachefs.Format(context.Background(), []bcachefs.FormatDevice{d}, bcachefs.FormatOptions{Source: bcachefs.FormatFromTar(bytes.NewReader(b))})
	if err != nil {
		return nil, err
	}
	return open(t, []block.Reader{d.Device}, bcachefs.Options{Warn: func(err error) { t.Errorf("warning: %v", err) }}), nil
}

func TestFormatFromTar(t *testing.T) {
	old := time.Unix(-86400*3650, 250)
	big := strings.Repeat("0123456789abcdef", 150000)
	long := strings.Repeat("t/", 1500) + "end"
	b := makeTar(t,
		tarEntry{h: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711, Uid: 5}},
		tarEntry{h: tar.Header{Name: "implied/dir/file", ModTime: old, Uid: 1000, Gid: 1 << 31}, data: "x"},
		tarEntry{h: tar.Header{Name: "big"}, data: big},
		tarEntry{h: tar.Header{Typeflag: tar.TypeLink, Name: "link", Linkname: "./big"}},
		tarEntry{h: tar.Header{Typeflag: tar.TypeSymlink, Name: "sym", Linkname: long}},
		tarEntry{h: tar.Header{Typeflag: tar.TypeChar, Name: "char", Devmajor: 4, Devminor: 300}},
		tarEntry{h: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}},
		tarEntry{h: tar.Header{Name: "replaced"}, data: strings.Repeat("old", 5000)},
		tarEntry{h: tar.Header{Name: "replaced"}, data: "new"},
		tarEntry{h: tar.Header{Name: "attrs", PAXRecords: map[string]string{
			"SCHILY.xattr.user.a%3Db": "1", "LIBARCHIVE.xattr.user.c": "Mg", "SCHILY.acl.access": "user::rw-,user:7:r--,group::r--,mask::r--,other::---"}}},
		tarEntry{h: tar.Header{Name: "lost+found/x"}, data: "left out"},
	)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(b)
	_ = w.Close()
	for name, b := range map[string][]byte{"plain": b, "gzip": z.Bytes()} {
		t.Run(name, func(t *testing.T) {
			v, err := formatTar(t, b)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, e := range manifest(t, v.Root()) {
				got[e.Path] = fmt.Sprintf("%c %o %d:%d n%d %d %s %d:%d", e.Type, e.Mode, e.UID, e.GID, e.Nlink, e.Size, e.Target, e.Major, e.Minor)
				if e.Path == "implied/dir/file" && e.Mtime != old.UnixNano() {
					t.Errorf("mtime = %d, want %d", e.Mtime, old.UnixNano())
				}
				if e.Path == "attrs" && (e.Xattr["user.a=b"] != "1" || e.Xattr["user.c"] != "2" || len(e.Xattr["system.posix_acl_access"]) != 4+5*8) {
					t.Errorf("attributes = %q, want user.a=b, user.c and an ACL of 5 entries", e.Xattr)
				}
			}
			for path, want := range map[string]string{
				".":                "d 711 5:0 n4 0  0:0",
				"implied/dir/file": fmt.Sprintf("f 644 1000:%d n1 1  0:0", 1<<31),
				"big":              fmt.Sprintf("f 644 0:0 n2 %d  0:0", len(big)),
				"link":             fmt.Sprintf("f 644 0:0 n2 %d  0:0", len(big)),
				"sym":              "l 644 0:0 n1 0 " + long + " 0:0",
				"char":             "c 644 0:0 n1 0  4:300",
				"fifo":             "p 644 0:0 n1 0  0:0",
				"replaced":         "f 644 0:0 n1 3  0:0",
				"lost+found/x":     "",
			} {
				if got[path] != want {
					t.Errorf("%s = %.80q, want %.80q", path, got[path], want)
				}
			}
		})
	}
}

func TestFormatFromTarRefuses(t *testing.T) {
	file := func(name string) tarEntry {
		return tarEntry{h: tar.Header{Name: name}, data: strings.Repeat("d", 9000)}
	}
	whole := makeTar(t, file("a"), file("b"))
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"out of the root", makeTar(t, file("a/../../b")), errs.ErrCorrupt},
		{"below a file", makeTar(t, file("a"), file("a/b")), syscall.ENOTDIR},
		{"file over directory", makeTar(t, file("a/b"), file("a")), syscall.EISDIR},
		{"link to nothing", makeTar(t, tarEntry{h: tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "no"}}), syscall.ENOENT},
		{"long name", makeTar(t, file(strings.Repeat("n", 256))), syscall.ENAMETOOLONG},
		{"cut off", whole[:len(whole)-13000], io.ErrUnexpectedEOF},
		{"no archive", bytes.Repeat([]byte("no"), 4000), tar.ErrHeader},
		{"xz", []byte("\xfd7zXZ\x00more"), errs.ErrUnsupported},
	} {
		if _, err := formatTar(t, tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	ext4 := block.NewSparse("ext4", 64<<20)
	if _, err := ext4.WriteAt([]byte{0x53, 0xef}, 1024+56); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		size    int64
		dev     map[string]string
		options map[string]string
		o       bcachefs.FormatOptions
		want    error
	}{
		{"too small", 4 << 20, nil, nil, bcachefs.FormatOptions{}, errs.ErrUnsupported},
		{"too few buckets", 64 << 20, map[string]string{"bucket_size": "256k"}, nil, bcachefs.FormatOptions{}, errs.ErrUnsupported},
		{"bucket", 64 << 20, map[string]string{"bucket_size": "100k"}, nil, bcachefs.FormatOptions{}, errs.ErrUsage},
		{"durability 3", 64 << 20, map[string]string{"durability": "3"}, nil, bcachefs.FormatOptions{}, errs.ErrUsage},
		{"device option of a volume", 64 << 20, nil, map[string]string{"label": "a"}, bcachefs.FormatOptions{}, errs.ErrUsage},
		{"unknown", 64 << 20, nil, map[string]string{"bogus": "1"}, bcachefs.FormatOptions{}, errs.ErrUsage},
		{"of a later version", 64 << 20, nil, map[string]string{"casefold": "1"}, bcachefs.FormatOptions{}, errs.ErrUsage},
		{"four replicas", 64 << 20, nil, map[string]string{"data_replicas": "4"}, bcachefs.FormatOptions{}, errs.ErrUsage},
		{"node of a block", 64 << 20, nil, map[string]string{"btree_node_size": "4k"}, bcachefs.FormatOptions{}, errs.ErrUsage},
		{"seed with encryption", 64 << 20, nil, nil, bcachefs.FormatOptions{Seed: "s", Encrypt: true}, errs.ErrUsage},
		{"label", 64 << 20, nil, nil, bcachefs.FormatOptions{Label: strings.Repeat("l", 32)}, errs.ErrUsage},
		{"superblock", 64 << 20, nil, nil, bcachefs.FormatOptions{SuperblockSize: 4096}, errs.ErrUsage},
	} {
		d := block.NewSparse("x.img", tt.size)
		tt.o.Options = tt.options
		_, err := bcachefs.Format(context.Background(), []bcachefs.FormatDevice{{Device: d, Options: tt.dev}}, tt.o)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
		if n := d.InUse(); n != 0 {
			t.Errorf("%s: %d bytes written before the refusal, want 0", tt.name, n)
		}
	}
	devs := []bcachefs.FormatDevice{{Device: ext4}}
	if _, err := bcachefs.Format(context.Background(), devs, bcachefs.FormatOptions{}); !errors.Is(err, errs.ErrBusy) {
		t.Errorf("Format over ext4: error %v, want %v", err, errs.ErrBusy)
	}
	if _, err := bcachefs.Format(context.Background(), devs, bcachefs.FormatOptions{Force: true}); err != nil {
		t.Errorf("Format over ext4 with force: %v", err)
	}
}

// A format that fails leaves no volume behind.
func TestFormatFailureLeavesNothing(t *testing.T) {
	d := block.NewSparse("x.img", 64<<20)
	bad := makeTar(t, tarEntry{h: tar.Header{Name: "a"}, data: "x"}, tarEntry{h: tar.Header{Name: "a/b"}, data: "x"})
	_, err := bcachefs.Format(context.Background(), []bcachefs.FormatDevice{{Device: d}}, bcachefs.FormatOptions{Source: bcachefs.FormatFromTar(bytes.NewReader(bad))})
	if err == nil {
		t.Fatal("no error")
	}
	if _, err := bcachefs.Open(context.Background(), []block.Reader{d}, bcachefs.Options{}); !errors.Is(err, errs.ErrNotBcachefs) {
		t.Errorf("Open after it = %v, want %v", err, errs.ErrNotBcachefs)
	}
}
