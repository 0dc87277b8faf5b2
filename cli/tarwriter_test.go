package cli

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// archiveOf writes members with a body of one letter.
func archiveOf(t *testing.T, members ...tarMember) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tarWriter{w: &b}
	for i := range members {
		m := &members[i]
		if err := w.header(m); err != nil {
			t.Fatal(err)
		}
		n := m.size
		if m.sparse {
			n = 0
			for _, r := range m.ranges {
				n += int64(r.End - r.Start)
			}
		}
		if err := w.data(bytes.Repeat([]byte("x"), int(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(t *testing.T, b []byte) (hs []*tar.Header, bodies [][]byte) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return hs, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		hs, bodies = append(hs, h), append(bodies, body)
	}
}

// TestTarWriterFields writes what does not fit the fields of a header.
func TestTarWriterFields(t *testing.T) {
	at := time.Unix(1, 5)
	attr := func(f func(*bcachefs.Attr)) *bcachefs.Attr {
		a := &bcachefs.Attr{Mode: ondisk.ModeRegular | 0o644, Mtime: at, Atime: at, Ctime: at}
		if f != nil {
			f(a)
		}
		return a
	}
	long := func(n int) string { return strings.Repeat("n", n) }
	var members []tarMember
	for _, name := range []string{
		"a", long(100), long(101), long(255), "d/" + long(100), "d/" + long(101), long(155) + "/x", long(156) + "/x", long(120) + "/" + long(120),
		strings.Repeat(long(250)+"/", 20) + "end", "é", "日本語", strings.Repeat("日", 80), "bad\xff\xfe", "bad\xff/" + long(90), "bad\xff" + long(200),
		"new\nline", "a=b", "-dash", " space ", `back\slash`, "a//b",
	} {
		members = append(members, tarMember{name: name, typ: tarRegular, attr: attr(nil), size: 3})
	}
	for _, link := range []string{"x", long(100), long(101), long(4000), "ü", "bad\xff", "bad\xff" + long(150)} {
		members = append(members, tarMember{name: "link", typ: tarSymlink, link: link, attr: attr(nil)})
	}
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(0, 1), time.Unix(-1, 0), time.Unix(-1, 500_000_000), time.Unix(-2, 999_999_999), time.Unix(1<<33-1, 0), time.Unix(1<<33, 0),
		time.Unix(4102444800, 123456789), time.Unix(-2208988800, 1), time.Unix(9e9, 0), time.Unix(5, 120_000_000),
	} {
		members = append(members, tarMember{name: "time", typ: tarRegular, attr: attr(func(a *bcachefs.Attr) { a.Mtime, a.Atime, a.Ctime = at, at, at })})
	}
	for _, id := range []uint32{0, 1<<21 - 1, 1 << 21, 4_000_000_000, 1<<32 - 1} {
		members = append(members, tarMember{name: "id", typ: tarRegular, attr: attr(func(a *bcachefs.Attr) { a.UID, a.GID = id, id })})
	}
	members = append(members,
		tarMember{name: "dev", typ: tarChar, attr: attr(func(a *bcachefs.Attr) { a.RdevMajor, a.RdevMinor = 4095, 1<<20-1 })},
		tarMember{name: "x", typ: tarRegular, attr: attr(nil), xattrs: []bcachefs.Xattr{
			{Name: "user.a=b%c", Value: []byte("\x00\n=\xff")}, {Name: "user.empty"}, {Name: "user.long", Value: bytes.Repeat([]byte{7}, 65536)},
		}},
	)
	hs, bodies := readAll(t, archiveOf(t, members...))
	if len(hs) != len(members) {
		t.Fatalf("%d members, want %d", len(hs), len(members))
	}
	unescape := strings.NewReplacer("%3D", "=", "%25", "%")
	for i, h := range hs {
		m := &members[i]
		type fields struct {
			Name, Link          string
			Type                byte
			Mode                int64
			UID, GID            int
			Mtime, Atime, Ctime int64
			Size                int64
			Major, Minor        int64
			Xattrs              map[string]string
		}
		want := fields{m.name, m.link, m.typ, int64(m.attr.Mode & 0o7777), int(m.attr.UID), int(m.attr.GID),
			m.attr.Mtime.UnixNano(), m.attr.Atime.UnixNano(), m.attr.Ctime.UnixNano(), m.size, int64(m.attr.RdevMajor), int64(m.attr.RdevMinor), nil}
		got := fields{h.Name, h.Linkname, h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.UnixNano(), h.AccessTime.UnixNano(), h.ChangeTime.UnixNano(), h.Size, h.Devmajor, h.Devminor, nil}
		add := func(to *map[string]string, k, v string) {
			if *to == nil {
				*to = map[string]string{}
			}
			(*to)[k] = v
		}
		for _, x := range m.xattrs {
			add(&want.Xattrs, x.Name, string(x.Value))
		}
		for k, v := range h.PAXRecords {
			if k, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				add(&got.Xattrs, unescape.Replace(k), v)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("member %d (-want +got):\n%s", i, d)
		}
		if int64(len(bodies[i])) != m.size {
			t.Errorf("member %d: %d bytes, want %d", i, len(bodies[i]), m.size)
		}
		if (h.PAXRecords["hdrcharset"] == "BINARY") != (strings.Contains(m.name+m.link, "\xff") && len(m.name+m.link) > 150) {
			t.Errorf("member %d: hdrcharset = %q", i, h.PAXRecords["hdrcharset"])
		}
	}
}

func TestTarWriterSparse(t *testing.T) {
	a := &bcachefs.Attr{Mode: ondisk.ModeRegular}
	type rs = []bcachefs.DataRange
	ranges := func(n ...uint64) (out rs) {
		for i := 0; i < len(n); i += 2 {
			out = append(out, bcachefs.DataRange{Start: n[i], End: n[i+1]})
		}
		return out
	}
	many := rs{}
	for i := range uint64(3000) {
		many = append(many, bcachefs.DataRange{Start: i * 8192, End: i*8192 + 4096})
	}
	for _, c := range []struct {
		size   int64
		ranges rs
	}{
		{1, nil},
		{1 << 20, nil},
		{10000, ranges(0, 4096)},
		{10000, ranges(8192, 10000)},
		{10000, ranges(4096, 8192)},
		{100_000, ranges(512, 1024, 2048, 2560, 99_840, 100_000)},
		{3000 * 8192, many},
	} {
		name := strings.Repeat("long/", 30) + "é"
		hs, bodies := readAll(t, archiveOf(t, tarMember{name: name, typ: tarRegular, attr: a, size: c.size, sparse: true, ranges: c.ranges}, tarMember{name: "after", typ: tarRegular, attr: a, size: 1}))
		want := make([]byte, c.size)
		for _, r := range c.ranges {
			copy(want[r.Start:r.End], bytes.Repeat([]byte("x"), int(r.End-r.Start)))
		}
		if len(hs) != 2 || hs[0].Name != name || hs[0].Size != c.size || !bytes.Equal(bodies[0], want) || hs[1].Name != "after" {
			t.Errorf("sparse file of %d bytes, %d ranges: read back different", c.size, len(c.ranges))
		}
	}
	// A file that only a record can tell the size of: the archive is small.
	b := archiveOf(t, tarMember{name: "huge", typ: tarRegular, attr: a, size: 1 << 50, sparse: true, ranges: ranges(1<<49, 1<<49+512)})
	h, err := tar.NewReader(bytes.NewReader(b)).Next()
	if err != nil || h.Size != 1<<50 || len(b) > 20480 {
		t.Errorf("sparse file of 1 PiB: %v, size %d, archive of %d bytes", err, h.Size, len(b))
	}
}

// TestTarWriterMisuse: a body that does not fit its header is an error, not a
// broken archive.
func TestTarWriterMisuse(t *testing.T) {
	a := &bcachefs.Attr{Mode: ondisk.ModeRegular}
	w := tarWriter{w: io.Discard}
	if err := w.header(&tarMember{name: "a", typ: tarRegular, attr: a, size: 10}); err != nil {
		t.Fatal(err)
	}
	if err := w.data(make([]byte, 11)); err == nil {
		t.Error("data of 11 bytes for a member of 10 = nil, want an error")
	}
	if err := w.header(&tarMember{name: "b", typ: tarRegular, attr: a}); err == nil {
		t.Error("header with 10 bytes missing = nil, want an error")
	}
}

func TestTarRecord(t *testing.T) {
	for n := range 1200 {
		v := strings.Repeat("v", n)
		b := string(tarRecord(nil, "k", v))
		var size int
		if _, err := fmt.Sscanf(b, "%d ", &size); err != nil || size != len(b) || !strings.HasSuffix(b, " k="+v+"\n") {
			t.Fatalf("tarRecord of %d bytes = %q, %v", n, b, err)
		}
	}
}

func TestACLText(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{"\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" + "\x08\x00\x06\x00\x64\x00\x00\x00" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff",
			"user::rwx,user:1000:r--,group::r-x,group:100:rw-,mask::rwx,other::---", true},
		{"", "", false},
		{"\x02\x00\x00\x00", "", false},
		{"\x01\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff", "", false},
		{"\x02\x00\x00\x00\x01\x00\x07\x00", "", false},
		{"\x02\x00\x00\x00\x03\x00\x07\x00\xff\xff\xff\xff", "", false},
	} {
		if got, ok := aclText([]byte(c.in)); got != c.want || ok != c.ok {
			t.Errorf("aclText(%x) = %q, %v, want %q, %v", c.in, got, ok, c.want, c.ok)
		}
	}
}
