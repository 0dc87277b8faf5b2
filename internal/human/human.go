// Package human writes byte sizes the way the reference tools do, so that
// output can be compared, and reads the sizes that people give as options
// (chapter 08 section 1.4). All units are powers of 1024.
package human

import (
	"strconv"
	"time"
)

// Style is a way to write a byte size.
type Style uint8

const (
	// V139 is that of the tools 1.39: "512", "1.25k", "32.0k", "64.0M".
	V139 Style = iota
	// V113 is that of the tools 1.13: "512 B", "1.25 KiB", "64.0 MiB".
	V113
	// Table is that of scrub and the subvolume lists, in narrow columns: "0B",
	// "512B", "1.25K", "64.0M".
	Table
)

// units by style and power of 1024. 2^64 is 16 of the last one.
var units = [...][7]string{
	V139:  {"", "k", "M", "G", "T", "P", "E"},
	V113:  {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"},
	Table: {"B", "K", "M", "G", "T", "P", "E"},
}

// Bytes writes n bytes: three digits that count, four below the next unit
// ("1023 KiB"). Below 1024 it is exact.
//
// The number is that of the reference, with two peculiarities: what is smaller
// than a 1024th of the unit is cut off before rounding (1 MiB and 5.5 KiB are
// "1.00 MiB"), and the decimals are chosen before rounding ("10.00 MiB" is a
// little less than 10 MiB, "1024 KiB" a little less than 1 MiB).
func (s Style) Bytes(n uint64) string {
	u := units[min(int(s), len(units)-1)]
	b := make([]byte, 0, 12)
	if n < 1024 {
		b = strconv.AppendUint(b, n, 10)
		return string(append(b, u[0]...))
	}
	power := 0
	var rem uint64
	for n >= 1024 {
		n, rem = n/1024, n%1024
		power++
	}
	decimals, scale := 0, uint64(1)
	switch {
	case n < 10:
		decimals, scale = 2, 100
	case n < 100:
		decimals, scale = 1, 10
	}
	// In units of the last decimal, half of one rounded up.
	frac := (rem*scale*2 + 1024) / 2048
	n, frac = n+frac/scale, frac%scale
	b = strconv.AppendUint(b, n, 10)
	if decimals > 0 {
		b = append(b, '.')
		if decimals == 2 {
			b = append(b, '0'+byte(frac/10))
		}
		b = append(b, '0'+byte(frac%10))
	}
	return string(append(b, u[power]...))
}

// Duration writes how long something took or will take, in two parts at most:
// "0.4 s", "12 s", "3 min 05 s", "2 h 10 min", "4 d 03 h". What is negative
// counts as nothing.
func Duration(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	// Rounded to what is shown first, so that no part reaches 60.
	if t := d.Round(100 * time.Millisecond); t < 10*time.Second {
		return strconv.FormatFloat(t.Seconds(), 'f', 1, 64) + " s"
	}
	two := func(a int64, ua string, b int64, ub string) string {
		s := strconv.FormatInt(a, 10) + " " + ua + " "
		if b < 10 {
			s += "0"
		}
		return s + strconv.FormatInt(b, 10) + " " + ub
	}
	sec := int64(d.Round(time.Second) / time.Second)
	switch {
	case sec < 60:
		return strconv.FormatInt(sec, 10) + " s"
	case sec < 3600:
		return two(sec/60, "min", sec%60, "s")
	}
	minutes := (sec + 30) / 60
	if minutes < 24*60 {
		return two(minutes/60, "h", minutes%60, "min")
	}
	hours := (sec + 1800) / 3600
	return two(hours/24, "d", hours%24, "h")
}
