package explain

import (
	"strconv"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/human"
)

// sizeText prints a size as the tools of the style do. Tools 1.13 give small
// numbers of bytes decimals, too: "1.00 B".
func sizeText(v uint64, old bool) string {
	switch {
	case !old:
		return human.V139.Bytes(v)
	case 0 < v && v < 10:
		return strconv.FormatUint(v, 10) + ".00 B"
	case 10 <= v && v < 100:
		return strconv.FormatUint(v, 10) + ".0 B"
	}
	return human.V113.Bytes(v)
}

// dateText prints seconds since 1970 as the reference does.
func dateText(sec uint64, loc *time.Location) string {
	return time.Unix(int64(sec), 0).In(loc).Format("Mon Jan _2 15:04:05 2006")
}
