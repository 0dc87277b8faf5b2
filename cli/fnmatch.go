package cli

import (
	"strings"
	"unicode/utf8"
)

// fnmatch matches a whole string against a pattern of the shell: ? for a
// character, * for any run of them (slashes and leading dots too, as find has
// it), [a-z] and [!a-z], and \ before a character that means itself. A pattern
// that ends within brackets means them literally.
func fnmatch(pattern, s string) bool {
	// The last star, to come back to: what follows it in the pattern, and where
	// the match of that was last tried.
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, mark = p, i
			continue
		}
		if n, m, ok := matchOne(pattern[p:], s[i:]); ok {
			p += n
			i += m
			continue
		}
		if star < 0 {
			return false
		}
		_, m := utf8.DecodeRuneInString(s[mark:])
		mark += m
		p, i = star, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one character; it says how much of the pattern and of s
// that took.
func matchOne(p, s string) (np, ns int, ok bool) {
	if p == "" {
		return 0, 0, false
	}
	r, ns := utf8.DecodeRuneInString(s)
	switch p[0] {
	case '?':
		return 1, ns, true
	case '[':
		if n, in, closed := matchSet(p, r); closed {
			return n, ns, in
		}
	case '\\':
		if len(p) > 1 {
			return 2, 1, p[1] == s[0]
		}
	}
	return 1, 1, p[0] == s[0]
}

// matchSet matches a character against the [set] that p starts with.
func matchSet(p string, r rune) (n int, in, closed bool) {
	i := 1
	not := false
	if i < len(p) && (p[i] == '!' || p[i] == '^') {
		not = true
		i++
	}
	next := func() rune {
		if p[i] == '\\' && i+1 < len(p) {
			i++
		}
		c, w := utf8.DecodeRuneInString(p[i:])
		i += w
		return c
	}
	for first := true; i < len(p); first = false {
		if p[i] == ']' && !first {
			return i + 1, in != not, true
		}
		lo := next()
		hi := lo
		if i+1 < len(p) && p[i] == '-' && p[i+1] != ']' {
			i++
			hi = next()
		}
		in = in || lo <= r && r <= hi
	}
	return 0, false, false
}
