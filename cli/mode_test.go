package cli

import (
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestMode holds MODE against what chmod(1) of GNU did to the files on top, with
// umask 022.
func TestMode(t *testing.T) {
	const f, d = ondisk.ModeRegular, ondisk.ModeDir
	before := [8]uint32{f | 0o644, f | 0o755, d | 0o755, d | 0o2755, f | 0o4755, f, d | 0o7777, f | 0o6711}
	for _, c := range []struct {
		mode string
		want [8]uint32
	}{
		{"u+x", [8]uint32{0o0744, 0o0755, 0o0755, 0o2755, 0o4755, 0o0100, 0o7777, 0o6711}},
		{"g=u", [8]uint32{0o0664, 0o0775, 0o0775, 0o2775, 0o4775, 0o0000, 0o7777, 0o4771}},
		{"o-x", [8]uint32{0o0644, 0o0754, 0o0754, 0o2754, 0o4754, 0o0000, 0o7776, 0o6710}},
		{"a=rX", [8]uint32{0o0444, 0o0555, 0o0555, 0o2555, 0o0555, 0o0444, 0o6555, 0o0555}},
		{"u=rwx,g=rx,o=", [8]uint32{0o0750, 0o0750, 0o0750, 0o2750, 0o0750, 0o0750, 0o6750, 0o0750}},
		{"+x", [8]uint32{0o0755, 0o0755, 0o0755, 0o2755, 0o4755, 0o0111, 0o7777, 0o6711}},
		{"=r", [8]uint32{0o0444, 0o0444, 0o0444, 0o2444, 0o0444, 0o0444, 0o6444, 0o0444}},
		{"+w", [8]uint32{0o0644, 0o0755, 0o0755, 0o2755, 0o4755, 0o0200, 0o7777, 0o6711}},
		{"-w", [8]uint32{0o0444, 0o0555, 0o0555, 0o2555, 0o4555, 0o0000, 0o7577, 0o6511}},
		{"u+s", [8]uint32{0o4644, 0o4755, 0o4755, 0o6755, 0o4755, 0o4000, 0o7777, 0o6711}},
		{"g+s", [8]uint32{0o2644, 0o2755, 0o2755, 0o2755, 0o6755, 0o2000, 0o7777, 0o6711}},
		{"+t", [8]uint32{0o1644, 0o1755, 0o1755, 0o3755, 0o5755, 0o1000, 0o7777, 0o7711}},
		{"=t", [8]uint32{0o1000, 0o1000, 0o1000, 0o3000, 0o1000, 0o1000, 0o7000, 0o1000}},
		{"o+t", [8]uint32{0o1644, 0o1755, 0o1755, 0o3755, 0o5755, 0o1000, 0o7777, 0o7711}},
		{"u=g,g+w", [8]uint32{0o0464, 0o0575, 0o0575, 0o2575, 0o0575, 0o0020, 0o7777, 0o2131}},
		{"a+rwx,o-w", [8]uint32{0o0775, 0o0775, 0o0775, 0o2775, 0o4775, 0o0775, 0o7775, 0o6775}},
		{"ug=rw,o=g", [8]uint32{0o0666, 0o0666, 0o0666, 0o2666, 0o0666, 0o0666, 0o6666, 0o0666}},
		{"644", [8]uint32{0o0644, 0o0644, 0o0644, 0o2644, 0o0644, 0o0644, 0o6644, 0o0644}},
		{"0644", [8]uint32{0o0644, 0o0644, 0o0644, 0o2644, 0o0644, 0o0644, 0o6644, 0o0644}},
		{"4755", [8]uint32{0o4755, 0o4755, 0o4755, 0o6755, 0o4755, 0o4755, 0o6755, 0o4755}},
		{"04755", [8]uint32{0o4755, 0o4755, 0o4755, 0o4755, 0o4755, 0o4755, 0o4755, 0o4755}},
		{"00644", [8]uint32{0o0644, 0o0644, 0o0644, 0o0644, 0o0644, 0o0644, 0o0644, 0o0644}},
		{"02755", [8]uint32{0o2755, 0o2755, 0o2755, 0o2755, 0o2755, 0o2755, 0o2755, 0o2755}},
		{"00755", [8]uint32{0o0755, 0o0755, 0o0755, 0o0755, 0o0755, 0o0755, 0o0755, 0o0755}},
		{"a-s", [8]uint32{0o0644, 0o0755, 0o0755, 0o0755, 0o0755, 0o0000, 0o1777, 0o0711}},
		{"u=,g=,o=", [8]uint32{0o0000, 0o0000, 0o0000, 0o2000, 0o0000, 0o0000, 0o6000, 0o0000}},
		{"g=s", [8]uint32{0o2604, 0o2705, 0o2705, 0o2705, 0o6705, 0o2000, 0o7707, 0o6701}},
		{"u=s", [8]uint32{0o4044, 0o4055, 0o4055, 0o6055, 0o4055, 0o4000, 0o7077, 0o6011}},
		{"+s", [8]uint32{0o6644, 0o6755, 0o6755, 0o6755, 0o6755, 0o6000, 0o7777, 0o6711}},
		{"-t", [8]uint32{0o0644, 0o0755, 0o0755, 0o2755, 0o4755, 0o0000, 0o6777, 0o6711}},
		{"a=t", [8]uint32{0o1000, 0o1000, 0o1000, 0o3000, 0o1000, 0o1000, 0o7000, 0o1000}},
		{"o=w+x", [8]uint32{0o0643, 0o0753, 0o0753, 0o2753, 0o4753, 0o0003, 0o6773, 0o6713}},
		{"u+rw-x", [8]uint32{0o0644, 0o0655, 0o0655, 0o2655, 0o4655, 0o0600, 0o7677, 0o6611}},
		{"=", [8]uint32{0o0000, 0o0000, 0o0000, 0o2000, 0o0000, 0o0000, 0o6000, 0o0000}},
		{"a=", [8]uint32{0o0000, 0o0000, 0o0000, 0o2000, 0o0000, 0o0000, 0o6000, 0o0000}},
		{"u=rws,g=s", [8]uint32{0o6604, 0o6605, 0o6605, 0o6605, 0o6605, 0o6600, 0o7607, 0o6601}},
		{"+X", [8]uint32{0o0644, 0o0755, 0o0755, 0o2755, 0o4755, 0o0000, 0o7777, 0o6711}},
		{"-x,+X", [8]uint32{0o0644, 0o0644, 0o0755, 0o2755, 0o4644, 0o0000, 0o7777, 0o6600}},
	} {
		m, err := parseMode(c.mode)
		if err != nil {
			t.Errorf("parseMode(%q): %v", c.mode, err)
			continue
		}
		for i, old := range before {
			if got := m.apply(old); got != c.want[i] {
				t.Errorf("%q of %07o = %04o, want %04o", c.mode, old, got, c.want[i])
			}
		}
	}
	for _, bad := range []string{"", "8", "77777", "0o644", "u", "u+z", "x+u", "u+r,", ",u+r", "rw", "+r+w!", "-1", "u+ug"} {
		if _, err := parseMode(bad); err == nil {
			t.Errorf("parseMode(%q) = nil error, want one", bad)
		}
	}
}

func TestParseDate(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, c := range []struct {
		in   string
		want time.Time
	}{
		{"2024-02-29", time.Date(2024, 2, 29, 0, 0, 0, 0, zone)},
		{"2024-02-29 13:37", time.Date(2024, 2, 29, 13, 37, 0, 0, zone)},
		{"2024-02-29 13:37:01.5", time.Date(2024, 2, 29, 13, 37, 1, 5e8, zone)},
		{"2024-02-29T13:37:01.000000001", time.Date(2024, 2, 29, 13, 37, 1, 1, zone)},
		{"2024-02-29T13:37:01Z", time.Date(2024, 2, 29, 13, 37, 1, 0, time.UTC)},
		{"2024-02-29 13:37:01 +0200", time.Date(2024, 2, 29, 11, 37, 1, 0, time.UTC)},
		{"2024-02-29T13:37:01.25-01:30", time.Date(2024, 2, 29, 15, 7, 1, 25e7, time.UTC)},
		{"@0", time.Unix(0, 0)},
		{"@1709213820.5", time.Unix(1709213820, 5e8)},
		{"@-1.25", time.Unix(-1, -25e7)},
		{"@1.123456789", time.Unix(1, 123456789)},
	} {
		got, err := parseDate(c.in, zone)
		if err != nil || !got.Equal(c.want) {
			t.Errorf("parseDate(%q) = %v, %v, want %v", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "now", "2024-02-30", "2024-2-9", "@", "@x", "@1.", "@1.1234567890", "@9999999999999999999", "1024-01-01", "2024-02-29 25:00", "2024-02-29 1:2:3 CET"} {
		if got, err := parseDate(bad, zone); err == nil {
			t.Errorf("parseDate(%q) = %v, want an error", bad, got)
		}
	}
}

func TestSizeChange(t *testing.T) {
	for _, c := range []struct {
		change string
		old    uint64
		want   uint64
		ok     bool
	}{
		{"0", 5, 0, true}, {"10", 5, 10, true}, {"2K", 0, 2048, true}, {"+1M", 5, 1<<20 + 5, true}, {"-3", 5, 2, true}, {"-30", 5, 0, true},
		{"<4", 5, 4, true}, {"<9", 5, 5, true}, {">9", 5, 9, true}, {">4", 5, 5, true}, {"/4", 11, 8, true}, {"%4", 11, 12, true}, {"%4", 12, 12, true},
		{"+1", 1<<63 - 1, 0, false}, {"+1", 1<<64 - 1, 0, false}, {"8E", 0, 0, false}, {"%1G", 1<<64 - 2, 0, false},
	} {
		f, err := parseSizeChange(c.change)
		if err != nil {
			t.Errorf("parseSizeChange(%q): %v", c.change, err)
			continue
		}
		if got, ok := f(c.old); ok != c.ok || ok && got != c.want {
			t.Errorf("%q of %d = %d, %v, want %d, %v", c.change, c.old, got, ok, c.want, c.ok)
		}
	}
	for _, bad := range []string{"", "x", "+", "/0", "%0", "--1", "1MB", "1e3"} {
		if _, err := parseSizeChange(bad); err == nil {
			t.Errorf("parseSizeChange(%q) = nil error, want one", bad)
		}
	}
}

func TestXattrText(t *testing.T) {
	for _, v := range []string{"", "plain", "with \"quotes\" and \\", "a\x00b\xff\n", "0x12", "0sQQ=="} {
		for _, enc := range []string{"text", "hex", "base64", xattrEncoding([]byte(v))} {
			s := xattrText([]byte(v), enc)
			if got, err := parseXattr(s); err != nil || string(got) != v {
				t.Errorf("%s of %q is %s, read back as %q, %v", enc, v, s, got, err)
			}
		}
	}
	for in, want := range map[string]string{"text": "text", `a\b`: `a\b`, `a\101`: "aA", "0x41 42": "AB", "0sQUI=": "AB", `"`: `"`, `"\\"`: `\`} {
		if got, err := parseXattr(in); err != nil || string(got) != want {
			t.Errorf("parseXattr(%s) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"0xZ", "0x123", "0s?", `"a\b"`, `"\999"`} {
		if got, err := parseXattr(bad); err == nil {
			t.Errorf("parseXattr(%s) = %q, want an error", bad, got)
		}
	}
	for _, n := range []string{"plain", "a\nb", "bad\xff", `back\slash`, "\a\b\t\v\f\r\x00"} {
		if got, err := unescapeName(escapeName(n)); err != nil || got != n {
			t.Errorf("unescapeName(%q) = %q, %v, want %q", escapeName(n), got, err, n)
		}
	}
	for _, bad := range []string{`\`, `\x`, `a\12`, `\400`} {
		if got, err := unescapeName(bad); err == nil {
			t.Errorf("unescapeName(%s) = %q, want an error", bad, got)
		}
	}
}

func TestACLFromText(t *testing.T) {
	// The form of the system calls of u::rwx,u:1000:r--,g::r-x,g:7:rw-,m::rwx,o::---.
	const want = "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x08\x00\x06\x00\x07\x00\x00\x00\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"
	for _, s := range []string{
		"user::rwx,user:1000:r--,group::r-x,group:7:rw-,mask::rwx,other::---",
		"user::rwx\nuser:joe:r--:1000\ngroup::r-x #effective:r-x\ngroup:7:rw\nmask:rwx\nother:---\n",
		"o::-,m::rwx,g:7:rw,g::rx,u:1000:r,u::rwx",
	} {
		got, err := aclFromText(s)
		if err != nil || string(got) != want {
			t.Errorf("aclFromText(%q) = %q, %v, want %q", s, got, err, want)
		}
	}
	if text, ok := aclText([]byte(want)); !ok {
		t.Error("aclText refuses it")
	} else if back, err := aclFromText(text); err != nil || string(back) != want {
		t.Errorf("aclFromText(aclText) = %q, %v", back, err)
	}
	for _, bad := range []string{"user", "user::rwz", "user:joe:r--", ":1:r", "mask:5:r", "x::r", "user:1:r:2:3"} {
		if got, err := aclFromText(bad); err == nil {
			t.Errorf("aclFromText(%q) = %q, want an error", bad, got)
		}
	}
}

func TestMemberPath(t *testing.T) {
	for _, c := range []struct {
		name  string
		strip int
		want  string
		skip  bool
		bad   bool
	}{
		{"a/b", 0, "a/b", false, false}, {"./a//b/", 0, "a/b", false, false}, {"/abs", 0, "abs", false, false}, {"./", 0, "", false, false},
		{"a/b/c", 1, "b/c", false, false}, {"a", 1, "", true, false}, {"a", 2, "", true, false}, {"../x", 0, "", false, true}, {"a/../b", 0, "", false, true}, {"a/..", 5, "", false, true},
	} {
		p, skip, err := memberPath(c.name, c.strip)
		if (err != nil) != c.bad || p != c.want || skip != c.skip {
			t.Errorf("memberPath(%q, %d) = %q, %v, %v, want %q, %v, error %v", c.name, c.strip, p, skip, err, c.want, c.skip, c.bad)
		}
	}
}
