package block

import "regexp"

// diskName matches disks and their slices. rdiskN is the same disk, unbuffered.
var diskName = regexp.MustCompile(`^disk\d+(s\d+)*$`)
