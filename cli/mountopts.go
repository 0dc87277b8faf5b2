package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/human"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// mountOptions are what -o says of a mount, beside what volumeFlags take.
type mountOptions struct {
	o          bcachefs.Options
	words      []string // generic ones that serve/fuse acts on
	allowOther bool
	ownerOnly  bool // noallow_other
	rw         bool // asked for
	remount    bool
	notes      []string // for -v: what was left out, and why
	warnings   []string // what is not known
}

// Generic words of mount(8), chapter 08 section 1.5.
var (
	// fuseWords are handed on.
	fuseWords = []string{"suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime", "relatime", "strictatime",
		"sync", "async", "dirsync"}
	// vfsWords are for the kernel's own filesystems; a read-only mount through
	// FUSE is the same with and without them.
	vfsWords = []string{"ro", "defaults", "mand", "nomand", "lazytime", "nolazytime", "norelatime", "nostrictatime", "silent", "loud", "iversion", "noiversion",
		"symfollow", "acl", "noacl", "user_xattr", "default_permissions", "nonempty", "fuse"}
	// tableWords are for what reads /etc/fstab.
	tableWords = []string{"auto", "noauto", "nofail", "_netdev", "nouser", "nousers", "nogroup", "noowner"}
	// userWords let users mount, and imply that they gain nothing by it.
	userWords = []string{"user", "users", "owner", "group"}
)

// maxCache bounds the option cache, so that sums with it do not overflow.
const maxCache = 1 << 50

// parseMount reads the options of a mount. Options of bcachefs that change how
// it writes are taken and do nothing; unknown ones are warned of.
func (f *volumeFlags) parseMount() (*mountOptions, error) {
	m := &mountOptions{}
	err := f.parse(&m.o, func(key, val string, has bool) (bool, error) {
		word := key
		if has {
			word += "=" + val
		}
		switch {
		case key == "subvol", key == "subvolid":
			return false, nil
		case strings.HasPrefix(key, "x-"), strings.HasPrefix(key, "X-"), key == "comment", key == "uhelper", key == "helper", slices.Contains(tableWords, word):
		case slices.Contains(userWords, key):
			m.words = append([]string{"noexec", "nosuid", "nodev"}, m.words...)
		case slices.Contains(fuseWords, word):
			m.words = append(m.words, word)
		case slices.Contains(vfsWords, word):
		case word == "rw":
			m.rw = true
		case word == "remount":
			m.remount = true
		case word == "allow_other":
			m.allowOther, m.ownerOnly = true, false
		case word == "noallow_other":
			m.allowOther, m.ownerOnly = false, true
		case word == "snapshot-ro": // all are
		case key == "cache":
			n, err := human.ParseSize(val)
			if err != nil || n < 1<<20 || n > maxCache {
				return true, usageErr("cache: must be a size of at least 1M")
			}
			m.o.CacheBytes = int64(n)
		default:
			return true, m.volumeOption(word)
		}
		return true, nil
	})
	return m, err
}

// volumeOption takes an option of bcachefs itself.
func (m *mountOptions) volumeOption(word string) error {
	o, val, ok := ondisk.LookupOption(word)
	if !ok {
		name, _, _ := strings.Cut(word, "=")
		text := "unknown option " + name + " ignored"
		if s := nearest(name, mountWords()); s != "" {
			text += "; did you mean " + s
		}
		m.warnings = append(m.warnings, text)
		return nil
	}
	if o.Flags&(ondisk.OptMount|ondisk.OptMountNotice) == 0 {
		if o.Flags&ondisk.OptFormat != 0 {
			return &exitError{ExitFailed, fmt.Errorf("%s can only be set at format time", o.Name)}
		}
		return &exitError{ExitFailed, fmt.Errorf("%s is not an option of a mount", o.Name)}
	}
	// A target is only known once the volume is open, and not needed to read.
	if o.Type != ondisk.OptTarget && val != "" {
		if _, err := o.Parse(val, nil); err != nil {
			return &exitError{ExitUsage, err}
		}
	}
	m.notes = append(m.notes, o.Name+": no effect on a read-only mount")
	return nil
}

// mountWords are all the names of options that a mount knows.
func mountWords() []string {
	all := []string{"degraded", "sb", "no_splitbrain_check", "salvage", "subvol", "subvolid", "allow_other", "cache", "rw", "remount"}
	all = slices.Concat(all, fuseWords, vfsWords, tableWords, userWords)
	for _, o := range ondisk.Options() {
		if o.Flags&(ondisk.OptMount|ondisk.OptMountNotice) != 0 {
			all = append(all, o.Name)
		}
	}
	return all
}

// nearest finds the word that a misspelled one was meant to be: at most two
// letters away, and not half of it; "" if there is none.
func nearest(word string, words []string) string {
	best, limit := "", min(2, (len(word)-1)/2)
	for _, w := range words {
		if d := editDistance(word, w); d <= limit {
			best, limit = w, d-1
		}
	}
	return best
}
