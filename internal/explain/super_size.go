package explain

import (
	"strconv"
	"time"
)

// sizeText prints a size as the reference does: three significant digits,
// rounded, in powers of 1024. Style 1.13 writes "4.38 KiB" and "512 B" (and, of
// small numbers, "1.00 B"), style 1.39 "4.38k" and "512".
func sizeText(v uint64, old bool) string {
	units := []string{"", "k", "M", "G", "T", "P", "E"}
	if old {
		units = []string{" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"}
	}
	unit, frac := 0, uint64(0) // frac in 1024ths of the unit
	for n := v; n >= 1024; n >>= 10 {
		unit++
		frac = n & 1023
	}
	n := v >> (10 * unit)
	if n == 0 || unit == 0 && !old {
		return strconv.FormatUint(n, 10) + units[unit]
	}
	digits := 2
	if n >= 100 {
		digits = 0
	} else if n >= 10 {
		digits = 1
	}
	scale := []uint64{1, 10, 100}[digits]
	t := (frac*scale + 512) >> 10
	if t == scale {
		n, t = n+1, 0
	}
	s := strconv.FormatUint(n, 10)
	if digits > 0 {
		f := strconv.FormatUint(t, 10)
		for len(f) < digits {
			f = "0" + f
		}
		s += "." + f
	}
	return s + units[unit]
}

// dateText prints seconds since 1970 as the reference does.
func dateText(sec uint64, loc *time.Location) string {
	return time.Unix(int64(sec), 0).In(loc).Format("Mon Jan _2 15:04:05 2006")
}
