package cli

import (
	"cmp"
	"slices"
)

// loss is what a copy does not keep.
type loss string

// Losses.
const (
	lossOwner    loss = "owners (only root can give files away, and only where the target has owners)"
	lossSetuid   loss = "setuid and setgid bits (they would be the user's own)"
	lossMode     loss = "permissions"
	lossTimes    loss = "exact times"
	lossXattrs   loss = "extended attributes"
	lossACL      loss = "ACLs"
	lossPrivXatt loss = "extended attributes that only root may set"
	lossLinks    loss = "hard links (they became copies)"
)

type lossCount struct {
	files int64
	first string
}

// lossJSON is a loss in JSON.
type lossJSON struct {
	What     string `json:"what"`
	Files    int64  `json:"files"`
	First    string `json:"first"`
	FirstRaw string `json:"first_base64,omitempty"`
}

// lose notes that a file lost something.
func (c *copier) lose(path string, what loss) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.lost[what]
	if n == nil {
		n = &lossCount{first: path}
		c.lost[what] = n
	}
	n.files++
}

// losses lists them, never nil.
func (c *copier) losses() []lossJSON {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []lossJSON{}
	for what, n := range c.lost {
		out = append(out, lossJSON{string(what), n.files, n.first, rawBytes(n.first)})
	}
	slices.SortFunc(out, func(a, b lossJSON) int { return cmp.Compare(a.What, b.What) })
	return out
}
