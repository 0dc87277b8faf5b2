package snapshots

import "syscall"

// errNoSubvol is what asking for a subvolume that is not there gives.
var errNoSubvol error = syscall.ENOENT
