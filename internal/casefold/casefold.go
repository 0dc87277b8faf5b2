// Package casefold folds names in casefolded directories: names that differ
// only in case, or only in how accents are composed, fold to the same bytes.
//
// The folding is full case folding, full canonical decomposition, and dropping
// of default ignorable characters, by the rules of Unicode 12.1.0 exactly: a
// volume stores hashes of folded names, so that another version of the rules
// would not find them (chapter 04 section 4.2). Directory gen writes the tables.
package casefold

import (
	"fmt"
	"syscall"
	"unicode/utf8"

	"github.com/gobcachefs/gobcachefs/errs"
)

// MaxLen is the largest folded name in bytes.
const MaxLen = 512

// Fold appends the folded form of name to dst. The error is syscall.EINVAL, and
// dst comes back as it was, for names that cannot be in a casefolded directory:
// those that are not valid UTF-8 (which excludes surrogates and overlong
// forms), hold a zero byte, fold to nothing, or fold to more than MaxLen bytes.
//
// It allocates only what dst has to grow.
func Fold(dst, name []byte) ([]byte, error) {
	out := dst
	base := len(dst)
	// Characters with a class, behind one without, are put in the order of
	// their classes. run is where the current ones begin.
	run := base
	add := func(s string) {
		for _, r := range s {
			c := classOf(r)
			if c == 0 {
				out = utf8.AppendRune(out, r)
				run = len(out)
			} else {
				out = insert(out, run, r, c)
			}
		}
	}
	for i := 0; i < len(name); {
		b := name[i]
		if b < utf8.RuneSelf && b != 0 {
			// Most names are nothing else.
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			out = append(out, b)
			run = len(out)
			i++
		} else {
			r, n := utf8.DecodeRune(name[i:])
			if r == utf8.RuneError && n <= 1 || r == 0 {
				return dst, invalid("name in a casefolded directory is not text", fmt.Sprintf("byte %#02x at %d", b, i))
			}
			i += n
			switch v := lookup(r); {
			case hangulBase <= r && r < hangulBase+hangulCount:
				out = appendHangul(out, r-hangulBase)
				run = len(out)
			case v == 1: // dropped, but nothing is reordered across it
				run = len(out)
			case v >= firstText:
				span := spans[v-firstText]
				add(texts[span>>8 : span>>8+span&0xff])
			case v >= 2:
				out = insert(out, run, r, classes[v-2])
			default:
				out = utf8.AppendRune(out, r)
				run = len(out)
			}
		}
		if len(out)-base > MaxLen {
			return dst, invalid("folded name is too long", fmt.Sprintf("over %d bytes", MaxLen))
		}
	}
	if len(out) == base {
		return dst, invalid("name folds to nothing", "")
	}
	return out, nil
}

func invalid(reason, got string) error {
	return &errs.Error{Where: errs.Nowhere, Kind: syscall.EINVAL, Reason: reason, Got: got}
}

// Syllables of Hangul are decomposed by arithmetic: 19 leading consonants, 21
// vowels, 27 trailing consonants or none.
const (
	hangulBase  = 0xac00
	hangulCount = 19 * hangulV * hangulT
	hangulV     = 21
	hangulT     = 28
)

func appendHangul(b []byte, s rune) []byte {
	b = utf8.AppendRune(b, 0x1100+s/(hangulV*hangulT))
	b = utf8.AppendRune(b, 0x1161+s%(hangulV*hangulT)/hangulT)
	if t := s % hangulT; t != 0 {
		b = utf8.AppendRune(b, 0x11a7+t)
	}
	return b
}

// lookup gives the page value of a code point.
func lookup(r rune) uint16 {
	if int(r>>8) >= len(index) {
		return 0
	}
	return pages[index[r>>8]][r&0xff]
}

// classOf gives the canonical combining class of a folded code point.
func classOf(r rune) uint8 {
	if v := lookup(r); 2 <= v && v < firstText {
		return classes[v-2]
	}
	return 0
}

// insert puts r, of class c, behind those of b[run:] that have the same class
// or a lower one.
func insert(b []byte, run int, r rune, c uint8) []byte {
	at := len(b)
	for at > run {
		prev, n := utf8.DecodeLastRune(b[run:at])
		if classOf(prev) <= c {
			break
		}
		at -= n
	}
	end := len(b)
	b = utf8.AppendRune(b, r)
	if at < end {
		var enc [utf8.UTFMax]byte
		n := utf8.EncodeRune(enc[:], r)
		copy(b[at+n:], b[at:end])
		copy(b[at:], enc[:n])
	}
	return b
}
