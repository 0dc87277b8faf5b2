// Package raidpq computes and undoes the parity of erasure-coded stripes
// (chapter 05 sections 15.2 and 15.4): P, the xor of the data blocks, and Q,
// their sum with the powers of 2 in GF(2^8) modulo 0x11d.
//
// A stripe is its blocks in the order of the stripe key: data first, then P,
// then Q if there are two parities. All have the same length. The arithmetic is
// byte by byte, so any range of the blocks can be worked on as if it were whole
// blocks.
//
// Parity only fills in blocks that are known to be lost; it does not find out
// which ones are bad. Checksums do.
package raidpq

import (
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Limits of a stripe (chapter 05 section 15.1).
const (
	MaxBlocks = 16 // data and parity
	MaxParity = 2
)

// Encode computes the parity blocks of a stripe from its data: blocks[:nrData]
// are read, blocks[nrData:], one or two, are overwritten. A parity entry that is
// nil or empty is given a buffer, its own if the capacity is enough. Shapes that
// no stripe can have are ErrCorrupt.
func Encode(blocks [][]byte, nrData int) error {
	c, err := codecFor(blocks, nrData)
	if err != nil {
		return err
	}
	size := len(blocks[0])
	for i, b := range blocks[:nrData] {
		if len(b) != size {
			return shapeError("block %d has %d bytes and block 0 has %d", i, len(b), size)
		}
	}
	for i := nrData; i < len(blocks); i++ {
		switch n := len(blocks[i]); {
		case n == 0 && cap(blocks[i]) >= size:
			blocks[i] = blocks[i][:size]
		case n == 0:
			blocks[i] = make([]byte, size)
		case n != size:
			return shapeError("parity block %d has %d bytes and block 0 has %d", i-nrData, n, size)
		}
	}
	if size == 0 {
		return nil
	}
	if err := c.Encode(blocks); err != nil {
		return shapeError("%v", err)
	}
	return nil
}

// Reconstruct fills in the lost blocks of a stripe: the entries that are nil or
// empty, whose capacity is used if it is enough. More lost blocks than there are
// parities are ErrIO, shapes that no stripe can have ErrCorrupt; blocks is as
// before then.
func Reconstruct(blocks [][]byte, nrData int) error {
	return reconstruct(blocks, nrData, reedsolomon.Encoder.Reconstruct)
}

// ReconstructData is Reconstruct for the data blocks alone; lost parity stays
// lost, but is counted.
func ReconstructData(blocks [][]byte, nrData int) error {
	return reconstruct(blocks, nrData, reedsolomon.Encoder.ReconstructData)
}

func reconstruct(blocks [][]byte, nrData int, do func(reedsolomon.Encoder, [][]byte) error) error {
	c, err := codecFor(blocks, nrData)
	if err != nil {
		return err
	}
	size, lost := 0, 0
	for i, b := range blocks {
		switch {
		case len(b) == 0:
			lost++
		case size == 0:
			size = len(b)
		case len(b) != size:
			return shapeError("block %d has %d bytes and others have %d", i, len(b), size)
		}
	}
	if lost > len(blocks)-nrData {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "stripe blocks lost",
			Want: fmt.Sprintf("at most %d", len(blocks)-nrData), Got: fmt.Sprintf("%d of %d", lost, len(blocks))}
	}
	if lost == 0 {
		return nil
	}
	if err := do(c, blocks); err != nil {
		return shapeError("%v", err)
	}
	return nil
}

// codecs has a codec for each number of data and parity blocks, made when first
// needed.
var codecs [MaxBlocks][MaxParity + 1]struct {
	once sync.Once
	c    reedsolomon.Encoder
	err  error
}

func codecFor(blocks [][]byte, nrData int) (reedsolomon.Encoder, error) {
	nrParity := len(blocks) - nrData
	if nrData < 1 || nrParity < 1 || nrParity > MaxParity || len(blocks) > MaxBlocks {
		return nil, shapeError("%d data of %d blocks", nrData, len(blocks))
	}
	e := &codecs[nrData][nrParity]
	e.once.Do(func() {
		p, q := make([]byte, nrData), make([]byte, nrData)
		for i := range nrData {
			p[i] = 1
			q[i] = powerOf2(i)
		}
		// The caller has its own ideas of what runs at the same time.
		e.c, e.err = reedsolomon.New(nrData, nrParity,
			reedsolomon.WithCustomMatrix([][]byte{p, q}), reedsolomon.WithMaxGoroutines(1))
	})
	return e.c, e.err
}

// powerOf2 is 2^n in the field.
func powerOf2(n int) byte {
	v := byte(1)
	for range n {
		carry := v >> 7
		v = v<<1 ^ 0x1d*carry
	}
	return v
}

func shapeError(format string, a ...any) error {
	return errs.Corruptf("stripe shape", format, a...)
}
