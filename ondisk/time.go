package ondisk

// nsPerSec is the number of nanoseconds in a second.
const nsPerSec = 1_000_000_000

// TimeToUnix converts a stored time, in units of precision nanoseconds relative
// to the superblock's time_base_lo (nanoseconds), to seconds and nanoseconds
// since 1970 (chapter 04 section 1.5). A precision that does not divide a second
// counts as 1, the only value in use.
func TimeToUnix(t int64, timeBaseLo uint64, precision uint32) (sec int64, nsec uint32) {
	p, perSec := timeUnits(precision)
	u := t + int64(timeBaseLo/p) // wraps like the reference
	sec = u / perSec
	rem := u % perSec
	if rem < 0 {
		sec, rem = sec-1, rem+perSec
	}
	return sec, uint32(rem) * uint32(p)
}

// TimeFromUnix is the inverse of TimeToUnix; nsec is cut to the precision.
func TimeFromUnix(sec int64, nsec uint32, timeBaseLo uint64, precision uint32) int64 {
	p, perSec := timeUnits(precision)
	return sec*perSec + int64(uint64(nsec)/p) - int64(timeBaseLo/p)
}

func timeUnits(precision uint32) (p uint64, perSec int64) {
	if precision == 0 || precision > nsPerSec || nsPerSec%precision != 0 {
		precision = 1
	}
	return uint64(precision), int64(nsPerSec / precision)
}
