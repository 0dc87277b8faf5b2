package bcachefs_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// image is one of the test volumes as a file; cleanup removes it.
func image(name string) (file string, cleanup func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	files, err := testvol.Unpack("testdata/volumes", name, dir)
	if err != nil {
		panic(err)
	}
	return files[0], func() { _ = os.RemoveAll(dir) }
}

// Open a compressed image and list its root directory.
func ExampleOpenPath() {
	ctx := context.Background()
	vol, err := bcachefs.OpenPath(ctx, "testdata/volumes/v39casefold.img.zst", bcachefs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer vol.Close()

	fmt.Println("version", vol.Superblock().Version)
	entries, err := vol.Root().ReadDir(ctx, "/")
	if err != nil {
		fmt.Println(err)
	}
	for _, e := range entries {
		a, err := vol.Files().Getattr(ctx, e.ID)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s %4d %s\n", fs.FileMode(a.Mode&0o777), a.Size, e.Name)
	}
	// Unordered output:
	// version 1.39
	// -rwxr-xr-x  512 Casefolded
	// -rwx------  512 lost+found
	// -rw-r--r--    2 README
}

// Read a file, from devices that are opened one by one. This directory ignores
// case.
func ExampleSubvolume_Open() {
	ctx := context.Background()
	dev, err := block.Open(ctx, "testdata/volumes/v39casefold.img.zst", block.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dev.Close()
	vol, err := bcachefs.Open(ctx, []block.Reader{dev}, bcachefs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}

	f, err := vol.Root().Open(ctx, "/Casefolded/STRASSE")
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := io.ReadAll(f)
	fmt.Printf("%q %v\n", b, err)
	// Output:
	// "1\n" <nil>
}

// Walk a snapshot: it is a directory of the volume, and a tree of its own.
func ExampleVolume_SubvolumeAt() {
	file, cleanup := image("snapshots")
	defer cleanup()
	ctx := context.Background()
	vol, err := bcachefs.OpenPath(ctx, file, bcachefs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer vol.Close()

	snap, err := vol.SubvolumeAt(ctx, "/snap1")
	if err != nil {
		fmt.Println(err)
		return
	}
	files, bytes := 0, uint64(0)
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := snap.ReadDir(ctx, dir)
		if err != nil {
			fmt.Println(err) // the entries that could be read are there all the same
		}
		for _, e := range entries {
			p := path.Join(dir, e.Name)
			a, err := snap.Lstat(ctx, p)
			switch {
			case err != nil:
				fmt.Println(err)
			case a.IsDir():
				walk(p)
			case a.IsRegular():
				files++
				bytes += a.Size
			}
		}
	}
	walk("/")
	fmt.Printf("subvolume %d: %d files, %d bytes\n", snap.ID(), files, bytes)
	// Output:
	// subvolume 3: 658 files, 41530693 bytes
}

// Servers use (subvolume, inode) pairs and no paths.
func ExampleFiles() {
	file, cleanup := image("plain")
	defer cleanup()
	ctx := context.Background()
	vol, err := bcachefs.OpenPath(ctx, file, bcachefs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer vol.Close()

	files := vol.Files()
	a, err := files.Lookup(ctx, files.Root(), "sparse")
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := files.Open(ctx, a.ID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.Size, "bytes, data at:")
	if err := h.DataRanges(ctx, 0, func(r bcachefs.DataRange) bool {
		fmt.Println(r.Start, r.End)
		return true
	}); err != nil {
		fmt.Println(err)
	}
	_, err = files.Lookup(ctx, files.Root(), "nothing")
	fmt.Println(err, errs.Errno(err) == 2)
	// Output:
	// 20971520 bytes, data at:
	// 5242880 5246976
	// 15728640 15802368
	// no such file or directory true
}
