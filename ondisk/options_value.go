package ondisk

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/gobcachefs/gobcachefs/errs"
)

// usage makes an error about the option, whose text starts with its name.
func (o *Option) usage(format string, a ...any) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: o.Name + ": " + fmt.Sprintf(format, a...)}
}

// Check checks that v is a legal value for volumes of version ver.
func (o *Option) Check(v uint64, ver Version) error {
	limit := o.Max
	if ver < Version1_39 && o.OldMax != 0 {
		limit = o.OldMax
	}
	return o.check(v, limit)
}

func (o *Option) check(v, limit uint64) error {
	switch o.Type {
	case OptBool:
		if v > 1 {
			return o.usage("must be bool")
		}
	case OptEnum, OptChoice:
		if v > limit {
			return o.usage("invalid selection")
		}
	case OptBits:
		if v&^limit != 0 {
			return o.usage("invalid selection")
		}
	case OptCompression:
		switch {
		case v > 0xff || int(v&15) >= len(o.Choices):
			return o.usage("invalid compression type")
		case v&15 == 0 && v != 0:
			return o.usage("invalid compression level")
		}
	case OptUint, OptTarget:
		switch {
		case v < o.Min:
			return o.usage("too small (min %d)", o.Min)
		case v > limit:
			return o.usage("too big (max %d)", limit)
		case (o.store.enc == encSectors || o.store.enc == encLog2 || o.store.where == storeBucketSize) && v%512 != 0:
			return o.usage("not a multiple of 512")
		case o.Flags&OptPow2 != 0 && bits.OnesCount64(v) != 1:
			return o.usage("must be a power of two")
		}
	}
	return nil
}

// Parse reads a value in the syntax of chapter 08 section 1.4; for a bool, ""
// is 1. resolve finds targets by name, Superblock.ParseTarget or something that
// knows the paths of members; without it only "none" is one. The range is that
// of 1.39: Set checks that of the volume. For strings only the length is
// checked, the number is 0.
func (o *Option) Parse(s string, resolve func(string) (uint16, error)) (uint64, error) {
	v, err := o.parse(s, resolve)
	if err != nil {
		return 0, err
	}
	return v, o.check(v, o.Max)
}

func (o *Option) parse(s string, resolve func(string) (uint16, error)) (uint64, error) {
	switch o.Type {
	case OptBool:
		switch s {
		case "", "1", "true", "yes":
			return 1, nil
		case "0", "false", "no":
			return 0, nil
		}
		return 0, o.usage("must be bool")
	case OptUint:
		if o.Flags&OptSize != 0 {
			v, err := parseSize(s)
			if err != nil {
				return 0, o.usage("%v", err)
			}
			return v, nil
		}
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil || s[0] == '+' {
			return 0, o.usage("must be a non-negative number")
		}
		return v, nil
	case OptEnum:
		if o.Name == "fix_errors" && s == "" {
			s = "yes"
		}
		if o.Name == "state" {
			if st, ok := ParseMemberState(s); ok {
				return uint64(st), nil
			}
		}
		if i, ok := findName(o.Choices, s); ok && s != "" {
			return uint64(i), nil
		}
		return 0, o.usage("invalid selection")
	case OptChoice:
		if i, ok := o.choice(s); ok {
			return uint64(i) + 1, nil
		}
		return 0, o.usage("invalid selection")
	case OptBits:
		return o.parseBits(s)
	case OptTarget:
		if s == "" || s == "none" {
			return 0, nil
		}
		if resolve == nil {
			return 0, o.usage("parse error: no device or label %q", s)
		}
		t, err := resolve(s)
		if err != nil {
			return 0, o.usage("parse error: %v", err)
		}
		return uint64(t), nil
	case OptCompression:
		return o.parseCompression(s)
	case OptString:
		if uint64(len(s)) > o.Max {
			return 0, o.usage("too long (max %d bytes)", o.Max)
		}
		if o.store.where == storeGroup && s != "" {
			for _, c := range strings.Split(s, ".") {
				if c == "" || len(c) > 32 {
					return 0, o.usage("components must have 1 to 32 bytes")
				}
			}
		}
		return 0, nil
	}
	return 0, o.usage("has no value")
}

// choice finds a name; passes have old names too.
func (o *Option) choice(s string) (int, bool) {
	if s == "" {
		return 0, false
	}
	if o.Choices[0] == passes[0].name {
		p, ok := ParseRecoveryPass(s)
		return int(p), ok
	}
	return findName(o.Choices, s)
}

// parseBits reads names separated by commas or semicolons; a leading minus
// takes all the others.
func (o *Option) parseBits(s string) (uint64, error) {
	rest, complement := strings.CutPrefix(s, "-")
	var v uint64
	for _, n := range strings.FieldsFunc(rest, func(r rune) bool { return r == ',' || r == ';' }) {
		i, ok := o.choice(n)
		if !ok {
			return 0, o.usage("invalid selection")
		}
		v |= 1 << i
	}
	if complement {
		v = o.Max &^ v
	}
	return v, nil
}

func (o *Option) parseCompression(s string) (uint64, error) {
	name, level, hasLevel := strings.Cut(s, ":")
	t, ok := findName(o.Choices, name)
	if !ok || name == "" {
		return 0, o.usage("invalid compression type")
	}
	var l uint64
	if hasLevel {
		var err error
		if l, err = strconv.ParseUint(level, 10, 64); err != nil || l > 15 || level[0] == '+' {
			return 0, o.usage("invalid compression level")
		}
	}
	return uint64(t) | l<<4, nil
}

// Format writes a value so that Parse reads it back. target names targets,
// Superblock.TargetString for instance; without it they are numbers.
func (o *Option) Format(v uint64, target func(uint16) string) string {
	switch o.Type {
	case OptEnum:
		if v < uint64(len(o.Choices)) {
			return o.Choices[v]
		}
	case OptChoice:
		if v == 0 {
			return ""
		}
		if v <= uint64(len(o.Choices)) {
			return o.Choices[v-1]
		}
	case OptBits:
		var l []string
		for i, n := range o.Choices {
			if n != "" && v>>i&1 != 0 {
				l = append(l, n)
			}
		}
		return strings.Join(l, ",")
	case OptTarget:
		if target != nil && v <= math.MaxUint16 {
			return target(uint16(v))
		}
	case OptCompression:
		if int(v&15) < len(o.Choices) {
			s := o.Choices[v&15]
			if v>>4 != 0 {
				s += ":" + strconv.FormatUint(v>>4, 10)
			}
			return s
		}
	case OptUint:
		if o.Flags&OptSize != 0 {
			return formatSize(v)
		}
	}
	return strconv.FormatUint(v, 10)
}

const sizeSuffixes = "kMGTPE"

// formatSize writes the shortest exact form: 4096 is 4k, 1000 is 1000.
func formatSize(v uint64) string {
	if v == 0 {
		return "0"
	}
	n := min(bits.TrailingZeros64(v)/10, len(sizeSuffixes))
	s := strconv.FormatUint(v>>(10*n), 10)
	if n > 0 {
		s += sizeSuffixes[n-1 : n]
	}
	return s
}

// parseSize reads digits ['.' digits] [space] [suffix], suffixes powers of 1024:
// B, k, K, KiB, M, MiB and so on. Forms that elsewhere mean powers of 1000 (kB,
// MB) are refused rather than guessed at.
func parseSize(s string) (uint64, error) {
	num := strings.TrimPrefix(s, "+")
	i := 0
	for i < len(num) && num[i] >= '0' && num[i] <= '9' {
		i++
	}
	if i == 0 {
		return 0, fmt.Errorf("must be a size")
	}
	v, err := strconv.ParseUint(num[:i], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("too big")
	}
	rest, frac := num[i:], ""
	if f, ok := strings.CutPrefix(rest, "."); ok {
		i = 0
		for i < len(f) && f[i] >= '0' && f[i] <= '9' {
			i++
		}
		if i == 0 || i > 30 {
			return 0, fmt.Errorf("must be a size")
		}
		frac, rest = f[:i], f[i:]
	}
	suffix := strings.TrimPrefix(rest, " ")
	if suffix == "" && rest != "" {
		return 0, fmt.Errorf("must be a size")
	}
	shift := 0
	if suffix != "" && suffix != "B" {
		p := strings.IndexByte("KMGTPE", suffix[0]&^0x20)
		// Lower case is only usual for k; m could be meant as milli.
		if p < 0 || suffix[0] >= 'a' && suffix[0] != 'k' {
			return 0, fmt.Errorf("unknown suffix %q", suffix)
		}
		switch suffix[1:] {
		case "", "iB":
		case "B", "b":
			return 0, fmt.Errorf("suffix %q is ambiguous: use %c or %ciB", suffix, suffix[0], suffix[0]&^0x20)
		default:
			return 0, fmt.Errorf("unknown suffix %q", suffix)
		}
		shift = 10 * (p + 1)
	}
	if v > math.MaxUint64>>shift {
		return 0, fmt.Errorf("too big")
	}
	v <<= shift
	// The fraction is cut to whole bytes, digit by digit from the last: exact.
	v2, ok := addFraction(v, frac, shift)
	if !ok {
		return 0, fmt.Errorf("too big")
	}
	return v2, nil
}

// addFraction adds 0.frac << shift, cut to an integer.
func addFraction(v uint64, frac string, shift int) (uint64, bool) {
	// Keep 18 digits: what lies beyond is below one byte even for E, except
	// that 2^60 needs 19; a value is at most one byte too small then.
	if len(frac) > 18 {
		frac = frac[:18]
	}
	if frac == "" || shift == 0 {
		return v, true
	}
	n, err := strconv.ParseUint(frac, 10, 64)
	if err != nil {
		return 0, false
	}
	div := uint64(1)
	for range frac {
		div *= 10
	}
	hi, lo := bits.Mul64(n, 1<<shift)
	add, _ := bits.Div64(hi, lo, div) // n < div, so hi < div
	sum, carry := bits.Add64(v, add, 0)
	return sum, carry == 0
}

// LookupOption takes a word of a mount option list or a command line apart:
// NAME=VALUE, NAME, noNAME, and the synonyms that releases have had. ok is
// false for names that are no option.
func LookupOption(word string) (o *Option, value string, ok bool) {
	name, value, hasValue := strings.Cut(word, "=")
	name = strings.ReplaceAll(name, "-", "_")
	switch name {
	case "quota":
		name = "usrquota"
	case "very_degraded":
		if hasValue && value != "1" && value != "true" {
			return nil, "", false
		}
		name, value, hasValue = "degraded", "very", true
	case "degraded":
		switch {
		case !hasValue, value == "1", value == "true":
			value, hasValue = "yes", true
		case value == "0", value == "false":
			value = "no"
		}
	}
	if o, ok = FindOption(name); ok {
		return o, value, true
	}
	if hasValue {
		return nil, "", false
	}
	for _, p := range []string{"no_", "no"} {
		if n, cut := strings.CutPrefix(name, p); cut {
			if o, ok = FindOption(n); ok && o.Type == OptBool {
				return o, "0", true
			}
		}
	}
	return nil, "", false
}
