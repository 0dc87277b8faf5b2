package check

import (
	"fmt"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Disk accounting (chapter 06 section 11): the keys of btree accounting against
// what the walk counted. Counters of inode numbers, of which there are as many as
// files, are compared through sums.

func (c *checker) inumHash(inum uint64, s *sum) uint64 {
	return c.hash.words(inum, uint64(s[0]), uint64(s[1]), uint64(s[2]))
}

// inumKey reads an accounting key of an inode number other than 0; ok is false for
// other keys, and for counters that are all zero, which are as good as none.
func (c *checker) inumKey(kv *ondisk.KV) (inum uint64, s sum, ok bool) {
	p, err := ondisk.DecodeAccountingPos(kv.Pos, c.accForm)
	if err != nil || p.Type != ondisk.AccInum || p.Inode == 0 || kv.Type != ondisk.KeyAccounting {
		return 0, s, false
	}
	v, _, err := ondisk.DecodeCounters(kv.Val)
	return p.Inode, sum(v), err == nil && !v.IsZero()
}

// walkAccounting reads the accounting keys.
func (t *tasks) walkAccounting() {
	c := t.c
	c.haveAcc = newCounters()
	var mu sync.Mutex
	t.leaves(ondisk.BtreeAccounting, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) {
		return func(kv *ondisk.KV) {
			c.accountingKey(kv)
			if inum, s, ok := c.inumKey(kv); ok {
				c.inums.add(inum, c.inumHash(inum, &s), -1)
				return
			}
			p, err := ondisk.DecodeAccountingPos(kv.Pos, c.accForm)
			if err != nil || kv.Type != ondisk.KeyAccounting || p.Type >= ondisk.NrAccountingTypes || p.Type == ondisk.AccInum && p.Inode != 0 {
				return // of a newer version, or reported with the key
			}
			v, _, err := ondisk.DecodeCounters(kv.Val)
			if err != nil {
				return
			}
			mu.Lock()
			c.haveAcc.at(p).add(v[:]...)
			mu.Unlock()
		}
	})
}

// accountingKey checks an accounting key by itself.
func (c *checker) accountingKey(kv *ondisk.KV) {
	if kv.Type != ondisk.KeyAccounting {
		return
	}
	w := leafAt(ondisk.BtreeAccounting, kv.Pos)
	if kv.Version == (ondisk.Bversion{}) {
		c.bad("accounting_key_version_0", w, "a version", "0")
	} else if seq := uint64(kv.Version.Hi)<<32 | kv.Version.Lo>>32; seq > c.state.Seq {
		// Deltas up to it would be taken for counted already.
		c.bad("accounting_key_version_in_future", w, fmt.Sprintf("at most journal seq %d", c.state.Seq), fmt.Sprintf("%d:%d (seq %d)", kv.Version.Hi, kv.Version.Lo, seq))
	}
	if n := len(kv.Val) / 8; n < 1 || n > ondisk.MaxCounters {
		c.bad("accounting_key_nr_counters_wrong", w, fmt.Sprintf("1 to %d", ondisk.MaxCounters), fmt.Sprint(n))
	}
	p, err := ondisk.DecodeAccountingPos(kv.Pos, c.accForm)
	v, _, _ := ondisk.DecodeCounters(kv.Val)
	if err != nil || v.IsZero() {
		return
	}
	for _, x := range v {
		if x < 0 {
			c.bad("accounting_key_underflow", w, "no negative counter", fmt.Sprint(v))
			break
		}
	}
	var devs []uint8
	switch p.Type {
	case ondisk.AccReplicas:
		devs = p.Devs()
	case ondisk.AccDevDataType, ondisk.AccDevLeaving:
		devs = []uint8{uint8(min(p.Dev, 254))}
	}
	for _, d := range devs {
		if d != ondisk.InvalidDev && c.geometry(d) == nil {
			c.bad("accounting_to_invalid_device", w, "members that exist", describeCounter(p))
			break
		}
	}
}

// compareAccounting compares the counters, after the last pass.
func (c *checker) compareAccounting() {
	if c.lostNodes() {
		c.note("check_incomplete", errs.Nowhere, "accounting is not compared: btrees cannot be read in full")
		return
	}
	if !c.minor(9) || c.noAlloc {
		return
	}
	if c.nrStale > 0 {
		c.note("accounting_inum_stale", errs.Nowhere, "%d counters of inode numbers do not agree: no release rebuilds them when it upgrades a volume", c.nrStale)
	}
	zero := sum{}
	for _, p := range c.acc.sorted() {
		want := *c.acc.m[p]
		got := zero
		if h := c.haveAcc.m[p]; h != nil {
			got = *h
		}
		n := max(p.Type.NrCounters(c.v), 1)
		for i := n; i < len(want); i++ {
			want[i], got[i] = 0, 0
		}
		if want != got {
			c.badCounter(p, want, got)
		}
		if p.Type == ondisk.AccReplicas && want != zero {
			c.checkReplicas(p)
		}
	}
	for _, p := range c.haveAcc.sorted() {
		if got := *c.haveAcc.m[p]; c.acc.m[p] == nil && got != zero {
			c.badCounter(p, zero, got)
		}
	}
}

// badCounter reports counters that differ.
func (c *checker) badCounter(p ondisk.AccountingPos, want, got sum) {
	if p.Type == ondisk.AccInum && c.staleInums {
		c.nrStale++
		return
	}
	n := max(p.Type.NrCounters(c.v), 1)
	c.bad("accounting_mismatch", leafAt(ondisk.BtreeAccounting, p.Pos(c.accForm)), fmt.Sprintf("%s %d", describeCounter(p), want[:n]), fmt.Sprint(got[:n]))
}

func describeCounter(p ondisk.AccountingPos) string {
	s := p.Type.String()
	switch p.Type {
	case ondisk.AccPersistentReserved:
		s += fmt.Sprintf(" %d", p.NrReplicas)
	case ondisk.AccReplicas:
		s += fmt.Sprintf(" %s %d/%d %d", p.DataType, p.NrRequired, p.NrDevs, p.Devs())
	case ondisk.AccDevDataType:
		s += fmt.Sprintf(" member %d %s", p.Dev, p.DataType)
	case ondisk.AccCompression:
		s += " " + p.Compression.String()
	case ondisk.AccSnapshot:
		s += fmt.Sprintf(" %d btree %s", p.Snapshot, ondisk.BtreeID(p.Btree))
	case ondisk.AccBtree:
		s += " " + ondisk.BtreeID(p.Btree).String()
	case ondisk.AccInum:
		s += fmt.Sprintf(" %d", p.Inode)
	case ondisk.AccReconcileWork:
		s += fmt.Sprintf(" kind %d", p.Kind)
	case ondisk.AccDevLeaving:
		s += fmt.Sprintf(" member %d", p.Dev)
	}
	return s
}

// checkReplicas checks that the superblock knows a set of members that something
// is stored on (chapter 06 section 15).
func (c *checker) checkReplicas(p ondisk.AccountingPos) {
	if p.DataType > ondisk.DataBtree && c.sb.VersionIncompat() >= ondisk.Version1_0+36 {
		return
	}
	for _, r := range c.replicas {
		if r.DataType == p.DataType && r.Required == int(p.NrRequired) && string(r.Devs) == string(p.Devs()) {
			return
		}
	}
	c.bad("accounting_replicas_not_marked", leafAt(ondisk.BtreeAccounting, p.Pos(c.accForm)), "an entry in the superblock's replicas", describeCounter(p))
}
