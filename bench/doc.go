// Command bench measures a mount against kernel ext4 on a loop device with the
// same tree, in the same run, with caches dropped before each measurement, and
// prints the table of docs/benchmarks.md.
//
//	go run ./bench [-dir DIR] [-rounds N] [-million] [-only REGEXP]
//
// It needs Linux, root, /dev/fuse, mke2fs, losetup, and the real tools 1.13 to
// make the volumes ($GOBCACHEFS_ORACLE, or ../shared/oracle beside the checkout,
// set up). The trees and volumes are made once and kept in DIR; they take 9 GiB.
//
// Each figure is the best of the rounds: what else runs on the machine can only
// make one slower. Rounds of both sides alternate.
package main
