package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	bigFile   = 1 << 30
	treeFiles = 12_000
	// maxFile bounds a file of the tree; most have a few KiB.
	maxFile = 1 << 20
)

// volume is an image made of a tree.
type volume struct {
	name, tree string
	size       int64
	options    []string // of format; nil for ext4
	ext4       bool
}

var volumes = []volume{
	{name: "plain", tree: "small", size: 3 << 30, options: []string{}},
	{name: "nosum", tree: "small", size: 3 << 30, options: []string{"--data_checksum=none"}},
	{name: "sum64", tree: "small", size: 3 << 30, options: []string{"--encoded_extent_max=64k"}},
	{name: "zstd", tree: "small", size: 3 << 30, options: []string{"--compression=zstd"}},
	{name: "ext4", tree: "small", size: 3 << 30, ext4: true},
}

var millionVolumes = []volume{{name: "million", tree: "million", size: 8 << 30, options: []string{}}}

func (b *bench) image(name string) string { return filepath.Join(b.dir, name+".img") }
func (b *bench) tree(name string) string  { return filepath.Join(b.dir, name) }

// build makes what is not there yet.
func (b *bench) build(million bool) error {
	all := volumes
	if err := b.once(b.tree("small"), makeSmall); err != nil {
		return err
	}
	if million {
		if err := b.once(b.tree("million"), makeMillion); err != nil {
			return err
		}
		all = append(all, millionVolumes...)
	}
	for _, v := range all {
		if err := b.once(b.image(v.name), func(path string) error { return b.makeVolume(v, path) }); err != nil {
			return err
		}
	}
	return nil
}

// once makes path by way of another name, so that half of it is never taken for
// all.
func (b *bench) once(path string, create func(string) error) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "bench: making", path)
	tmp := path + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := create(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (b *bench) makeVolume(v volume, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = f.Truncate(v.size)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	if v.ext4 {
		return command("mke2fs", "-q", "-F", "-t", "ext4", "-d", b.tree(v.tree), path)
	}
	return command(oracle()+"/tools", append(append([]string{"format", "--source=" + b.tree(v.tree)}, v.options...), path)...)
}

// oracle is where the real tools are.
func oracle() string {
	if dir := os.Getenv("GOBCACHEFS_ORACLE"); dir != "" {
		return dir
	}
	return "../shared/oracle"
}

// makeSmall writes the tree of most figures: a file "big" of 1 GiB, and below
// "tree" 12,000 files as in a source tree. Half of the bytes of the small ones
// can be compressed.
func makeSmall(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(7, 7))
	noise := rand.NewChaCha8([32]byte{7})
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, noise, bigFile); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	block := make([]byte, maxFile)
	for i := range block {
		block[i] = "int return static struct void\n\t(){};"[r.IntN(36)]
		if i%2 == 0 {
			block[i] = byte(r.Uint32())
		}
	}
	for i := range treeFiles {
		sub := filepath.Join(dir, "tree", fmt.Sprintf("d%02d", i/600), fmt.Sprintf("s%02d", i/30%20))
		if i%30 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		size := min(maxFile, int(math.Exp(9+1.6*r.NormFloat64())))
		from := r.IntN(maxFile - size + 1)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%03d.c", i%30)), block[from:from+size], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeMillion writes a million files of a few bytes.
func makeMillion(dir string) error {
	for i := range 1_000_000 {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/1000))
		if i%1000 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d", i)), fmt.Append(nil, i), 0o644); err != nil {
			return err
		}
	}
	return nil
}
