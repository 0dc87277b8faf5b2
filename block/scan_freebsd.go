package block

import "regexp"

// diskName matches the disks of the drivers that have some, with their
// partitions: GPT (p1), MBR (s1), BSD (a).
var diskName = regexp.MustCompile(`^(ada|da|nda|nvd|vtbd|md|mmcsd|xbd|mfid|mfisyspd|mlyd|aacd|idad|ipsd|twed|pst|ld|cd)\d+(p\d+)?(s\d+)?[a-h]?$`)
