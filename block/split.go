package block

import (
	"runtime"
	"strings"
)

// SplitDevices splits a device string "dev1:dev2:…" (chapter 08 section 1.5)
// at its colons, but not inside the scheme, host and port of an http or https
// URL, nor after a Windows drive letter. A colon in the path of a URL does
// split: write it %3A. Empty elements are kept, for Open to complain about;
// "" gives none.
func SplitDevices(s string) []string { return splitDevices(s, runtime.GOOS == "windows") }

// splitDevices is SplitDevices for one system: C:/x is one file on Windows, and
// two elsewhere (C:\x is one file everywhere).
func splitDevices(s string, windows bool) []string {
	if s == "" {
		return nil
	}
	var out []string
	for {
		from := urlHead(s)
		if from == 0 {
			from = driveHead(s, windows)
		}
		i := strings.IndexByte(s[from:], ':')
		if i < 0 {
			return append(out, s)
		}
		out = append(out, s[:from+i])
		s = s[from+i+1:]
	}
}

// urlHead returns the length of the scheme and authority of the URL that s
// starts with, 0 if it starts with none.
func urlHead(s string) int {
	n := urlScheme(s)
	if n == 0 {
		return 0
	}
	end := len(s)
	if i := strings.IndexAny(s[n:], "/?#"); i >= 0 {
		end = n + i
	}
	auth := s[n:end]
	// A user name and password, whose colons and at signs belong to it.
	host := strings.LastIndexByte(auth, '@') + 1
	if j := strings.IndexByte(auth[host:], ']'); strings.HasPrefix(auth[host:], "[") && j > 0 {
		host += j + 1
	} else if j := strings.IndexByte(auth[host:], ':'); j >= 0 {
		host += j
	} else {
		return end
	}
	// A port: digits (or none) up to the end of the authority or to the next
	// device. A colon before anything else starts the next device.
	if host < len(auth) && auth[host] == ':' {
		j := host + 1
		for j < len(auth) && auth[j] >= '0' && auth[j] <= '9' {
			j++
		}
		if j == len(auth) || auth[j] == ':' {
			host = j
		}
	}
	return n + host
}

// driveHead returns the length of a drive letter and its colon at the start of
// s, with the prefix of the device namespace if there is one; 0 if there is none.
func driveHead(s string, windows bool) int {
	n := 0
	if strings.HasPrefix(s, `\\.\`) || strings.HasPrefix(s, `\\?\`) {
		n = 4
	}
	if len(s) < n+2 || s[n+1] != ':' {
		return 0
	}
	if c := s[n] | 0x20; c < 'a' || c > 'z' {
		return 0
	}
	rest := s[n+2:]
	switch {
	case strings.HasPrefix(rest, `\`):
	case windows && strings.HasPrefix(rest, "/"):
	case n > 0: // \\.\E: is the volume itself
	default:
		return 0
	}
	return n + 2
}
