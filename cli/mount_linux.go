package cli

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountedOn says what is mounted on a directory: the source and the type of the
// topmost mount, "" if there is none. It does not touch the mount.
func mountedOn(dir string) (source, typ string) {
	// The last part of the path may be a mount that hangs.
	if p, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(p, filepath.Base(dir))
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// id parent major:minor root mountpoint options [tags] - type source options
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if ok && len(l) > 4 && len(r) > 1 && unescapeMount(l[4]) == dir {
			source, typ = unescapeMount(r[1]), r[0]
		}
	}
	return source, typ
}

// unescapeMount undoes the octal escapes of mount tables.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace(s)
}

// answers: the process that serves a mount is there. What the kernel knows by
// itself, attributes even, says nothing of that.
func answers(dir string) bool {
	var st unix.Statfs_t
	return !errors.Is(unix.Statfs(dir, &st), unix.ENOTCONN)
}

func dup2(from, to int) error { return unix.Dup3(from, to, 0) }
