package errs

import "syscall"

// NoData is what asking for an extended attribute that is not there gives.
const NoData = syscall.ENOATTR
