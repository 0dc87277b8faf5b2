// Unpack writes a test volume into a folder as image files:
//
//	go run ./internal/testvol/unpack [-from FOLDER] NAME DIR
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

func main() {
	from := flag.String("from", filepath.Join("testdata", "volumes"), "the set of volumes")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: unpack [-from FOLDER] NAME DIR")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	paths, err := testvol.Unpack(*from, flag.Arg(0), flag.Arg(1))
	for _, p := range paths {
		fmt.Println(p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "unpack:", err)
		os.Exit(1)
	}
}
