package human

import (
	"math/big"
	"strconv"
	"strings"

	"github.com/gobcachefs/gobcachefs/errs"
)

// maxSizeLen bounds what ParseSize looks at: longer numbers are typing errors.
const maxSizeLen = 64

// ParseSize reads a byte size: decimal digits, perhaps with a fraction, perhaps
// one space, and perhaps a unit, as "65536", "64k", "1.5M", "64 KiB". Units are
// powers of 1024: B; k or K, M, G, T, P, E; the same with iB. What is less than
// a byte is cut off ("0.3k" is 307).
//
// It takes all that the reference takes, and more; but "MB" and its like, which
// some read as powers of 1000, are refused with an advice. Errors are
// errs.ErrUsage.
func ParseSize(s string) (uint64, error) {
	if len(s) > maxSizeLen {
		return 0, bad(s[:maxSizeLen]+"…", "size is too long", "")
	}
	rest := strings.TrimPrefix(s, "+")
	whole, rest := cutDigits(rest)
	switch {
	case s == "":
		return 0, bad(s, "size is empty", "")
	case strings.HasPrefix(s, "-"):
		return 0, bad(s, "size is negative", "")
	case whole == "":
		return 0, bad(s, "not a size", "a number with a unit, as 64k or 1.5M")
	case strings.HasPrefix(rest, ","):
		return 0, bad(s, "not a size", "a decimal point, as in 1.5M")
	}
	frac := ""
	if after, ok := strings.CutPrefix(rest, "."); ok {
		if frac, rest = cutDigits(after); frac == "" {
			return 0, bad(s, "not a size", "digits behind the point")
		}
	}
	unit := strings.TrimPrefix(rest, " ")
	if unit == "" && rest != "" {
		return 0, bad(s, "not a size", "no space at the end")
	}
	power, err := parseUnit(s, unit)
	if err != nil {
		return 0, err
	}
	// Exact: digits × 1024^power / 10^len(frac).
	n, _ := new(big.Int).SetString(whole+frac, 10)
	n.Lsh(n, uint(10*power))
	n.Quo(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(frac))), nil))
	if !n.IsUint64() {
		return 0, bad(s, "size is too large", "less than 16E")
	}
	return n.Uint64(), nil
}

// cutDigits splits s behind its leading digits.
func cutDigits(s string) (digits, rest string) {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[:n], s[n:]
}

// parseUnit returns the power of 1024 that a unit stands for. s is for messages.
func parseUnit(s, unit string) (int, error) {
	if unit == "" || unit == "B" {
		return 0, nil
	}
	letter, rest := unit[:1], unit[1:]
	power := strings.Index(" KMGTPE", strings.Replace(letter, "k", "K", 1))
	switch {
	case power > 0 && (rest == "" || rest == "iB"):
		return power, nil
	case power > 0 && rest == "B":
		return 0, bad(s, "size in a unit of two meanings", letter+" or "+strings.ToUpper(letter)+"iB, which are powers of 1024")
	case power > 0 && rest == "i":
		return 0, bad(s, "unit of a size that is not known", letter+"iB or "+letter)
	case letter == "Z" || letter == "Y":
		return 0, bad(s, "size is too large", "less than 16E")
	case len(rest) <= 2 && strings.Contains("mgtpe", letter):
		return 0, bad(s, "unit of a size that is not known", strings.ToUpper(letter)+" in upper case")
	}
	return 0, bad(s, "unit of a size that is not known", "one of B, K, M, G, T, P, E, KiB, MiB, GiB, TiB, PiB, EiB")
}

func bad(s, reason, want string) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: reason, Want: want, Got: strconv.Quote(s)}
}
