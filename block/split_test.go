package block

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitDevices(t *testing.T) {
	type test struct {
		in   string
		want []string
	}
	tests := []test{
		{"", nil},
		{"/dev/sda", []string{"/dev/sda"}},
		{"/dev/sda:/dev/sdb", []string{"/dev/sda", "/dev/sdb"}},
		{"a:b:c", []string{"a", "b", "c"}},
		{":", []string{"", ""}},
		{"a:", []string{"a", ""}},
		{":a", []string{"", "a"}},
		{"a::b", []string{"a", "", "b"}},
		{"a.img://mnt/b.img", []string{"a.img", "//mnt/b.img"}},
		{"UUID=6e0c1f2a-0000-4000-8000-000000000001", []string{"UUID=6e0c1f2a-0000-4000-8000-000000000001"}},
		// URLs
		{"http://h/x", []string{"http://h/x"}},
		{"http://h", []string{"http://h"}},
		{"http://host:8080/x", []string{"http://host:8080/x"}},
		{"HTTPS://host:8080/x", []string{"HTTPS://host:8080/x"}},
		{"http://host:8080", []string{"http://host:8080"}},
		{"http://host:8080/x:/dev/sdb", []string{"http://host:8080/x", "/dev/sdb"}},
		{"/dev/sda:http://host:8080/x", []string{"/dev/sda", "http://host:8080/x"}},
		{"http://a:1/x:https://b:2/y:c", []string{"http://a:1/x", "https://b:2/y", "c"}},
		{"http://a/x:http://b/y", []string{"http://a/x", "http://b/y"}},
		{"http://a:http://b/y", []string{"http://a", "http://b/y"}},
		{"http://a:80:http://b:81/y", []string{"http://a:80", "http://b:81/y"}},
		{"http://a:80:/dev/sdb", []string{"http://a:80", "/dev/sdb"}},
		{"http://a:/x", []string{"http://a:/x"}},
		{"http://a::b", []string{"http://a:", "b"}},
		{"http://[::1]/x:b", []string{"http://[::1]/x", "b"}},
		{"http://[fe80::1%25eth0]:8080/x:b", []string{"http://[fe80::1%25eth0]:8080/x", "b"}},
		{"http://[::1]:b", []string{"http://[::1]", "b"}},
		{"http://[::1", []string{"http://[:", "1"}},
		{"http://u:p@h:80/x:b", []string{"http://u:p@h:80/x", "b"}},
		{"http://u:p:q@h/x", []string{"http://u:p:q@h/x"}},
		{"http://h/u@x:b", []string{"http://h/u@x", "b"}},
		{"http://h?q=1:b", []string{"http://h?q=1", "b"}},
		{"http://h/a%3Ab:c", []string{"http://h/a%3Ab", "c"}},
		{"http://h/a:b", []string{"http://h/a", "b"}},
		{"http:/x", []string{"http", "/x"}},
		{"http:", []string{"http", ""}},
		{"http://", []string{"http://"}},
		{"xhttp://h:1/x", []string{"xhttp", "//h", "1/x"}},
		{"ftp://h/x", []string{"ftp", "//h/x"}},
		// drive letters
		{`C:\x`, []string{`C:\x`}},
		{`C:\x:d:\y`, []string{`C:\x`, `d:\y`}},
		{`C:\x:a`, []string{`C:\x`, "a"}},
		{`dir:C:\x`, []string{"dir", `C:\x`}},
		{`1:\x`, []string{"1", `\x`}},
		{`CC:\x`, []string{"CC", `\x`}},
		{`C:x`, []string{"C", "x"}},
		{`C:`, []string{"C", ""}},
		{`\\.\PhysicalDrive1:\\.\PhysicalDrive2`, []string{`\\.\PhysicalDrive1`, `\\.\PhysicalDrive2`}},
		{`\\.\E::C:\y`, []string{`\\.\E:`, `C:\y`}},
		{`\\?\C:\x:b`, []string{`\\?\C:\x`, "b"}},
		{`http://h:80/x:C:\y`, []string{"http://h:80/x", `C:\y`}},
	}
	for _, windows := range []bool{false, true} {
		all := append(tests[:len(tests):len(tests)], test{"C:/x:b", []string{"C", "/x", "b"}}, test{"a:/dev/sdb", []string{"a", "/dev/sdb"}})
		if windows {
			all = append(tests[:len(tests):len(tests)], test{"C:/x:b", []string{"C:/x", "b"}}, test{"a:/x:d:/y", []string{"a:/x", "d:/y"}})
		}
		for _, tt := range all {
			if got := splitDevices(tt.in, windows); !cmp.Equal(got, tt.want) {
				t.Errorf("splitDevices(%q, windows %v) = %q, want %q", tt.in, windows, got, tt.want)
			}
		}
	}
}

func FuzzSplitDevices(f *testing.F) {
	f.Add("http://u:p@h:80/x:C:\\y::b")
	f.Fuzz(func(t *testing.T, s string) {
		got := splitDevices(s, false)
		// Nothing but separators is lost, and every element stands alone.
		joined := ""
		for i, e := range got {
			if i > 0 {
				joined += ":"
			}
			joined += e
		}
		if joined != s {
			t.Errorf("splitDevices(%q) = %q, which is not its input", s, got)
		}
		for _, e := range got {
			if again := splitDevices(e, false); e != "" && (len(again) != 1 || again[0] != e) {
				t.Errorf("splitDevices(%q) = %q, whose %q splits again to %q", s, got, e, again)
			}
		}
	})
}
