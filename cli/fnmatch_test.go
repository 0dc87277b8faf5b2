package cli

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFnmatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"a", "a", true}, {"a", "b", false},
		{"*", "", true}, {"*", ".hidden", true}, {"*", "a/b", true}, {"**", "x", true},
		{"?", "a", true}, {"?", "", false}, {"?", "é", true}, {"?", "\xff", true}, {"??", "é", false},
		{"*.c", "x.c", true}, {"*.c", "x.c.o", false}, {"*.c", ".c", true},
		{"a*b*c", "aXbYbZc", true}, {"a*b*c", "acb", false}, {"*a*a*a*", "aa", false},
		{"[abc]", "b", true}, {"[abc]", "d", false}, {"[!abc]", "d", true}, {"[^abc]", "a", false},
		{"[a-c]x", "bx", true}, {"[a-c]x", "dx", false}, {"[]]", "]", true}, {"[!]]", "a", true},
		{"[a-]", "-", true}, {"[-a]", "-", true}, {"[é-ü]", "ö", true}, {"[\\]]", "]", true},
		{"[abc", "[abc", true}, {"[", "[", true}, {"a[", "a[", true},
		{"\\*", "*", true}, {"\\*", "x", false}, {"\\a", "a", true}, {"a\\", "a\\", true}, {"\\\\", "\\", true},
		{"日本*", "日本語", true}, {"*語", "日本語", true}, {"日?語", "日本語", true},
		{"bad*utf8", "bad\xff\xfeutf8", true}, {"bad??utf8", "bad\xff\xfeutf8", true},
	} {
		if got := fnmatch(c.pattern, c.s); got != c.want {
			t.Errorf("fnmatch(%q, %q) = %v, want %v", c.pattern, c.s, got, c.want)
		}
	}
	// A pattern that makes a naive matcher try all ways.
	if fnmatch(strings.Repeat("*a", 100)+"b", strings.Repeat("a", 5000)) {
		t.Error("fnmatch of many stars = true, want false")
	}
}

// FuzzFnmatch compares with a regular expression.
func FuzzFnmatch(f *testing.F) {
	for _, s := range []string{"a*b?c\x00aXbYc", "*\x00", "??*?\x00abc", "é*\x00éa"} {
		p, n, _ := strings.Cut(s, "\x00")
		f.Add(p, n)
	}
	f.Fuzz(func(t *testing.T, p, s string) {
		got := fnmatch(p, s)
		if strings.ContainsAny(p, `[\`) || !utf8.ValidString(p) || !utf8.ValidString(s) {
			return
		}
		var re strings.Builder
		re.WriteString(`(?s)\A`)
		for _, r := range p {
			switch r {
			case '*':
				re.WriteString(".*")
			case '?':
				re.WriteString(".")
			default:
				re.WriteString(regexp.QuoteMeta(string(r)))
			}
		}
		re.WriteString(`\z`)
		x, err := regexp.Compile(re.String())
		if err != nil {
			return
		}
		if want := x.MatchString(s); got != want {
			t.Errorf("fnmatch(%q, %q) = %v, want %v", p, s, got, want)
		}
	})
}
