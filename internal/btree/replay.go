package btree

import (
	"context"

	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Replay turns the keys of the journal window into changes of nodes in memory
// (chapter 03 section 10.3 f). Each keeps the journal entry it came from until
// its node is written. After it the trees no longer look at the overlay. It is
// called once, before the first transaction.
func (s *Store) Replay(ctx context.Context) error {
	o := s.state.Overlay
	for b := ondisk.BtreeID(0); b < ondisk.MaxBtrees; b++ {
		for _, level := range o.Levels(b) {
			ks := o.Range(b, level, ondisk.PosMin, ondisk.SPosMax)
			for len(ks) > 0 {
				n, parent, idx, err := s.leaf(ctx, b, level, ks[0].Pos)
				if err != nil {
					return err
				}
				if n == nil {
					// A level above the root: nothing to be done with it.
					break
				}
				i := 0
				for i < len(ks) && !n.Max.Less(ks[i].Pos) {
					i++
				}
				s.replayNode(n, parent, idx, ks[:i])
				ks = ks[i:]
			}
		}
	}
	s.state.Overlay = journal.NewOverlay()
	return nil
}

// replayNode makes a node live with the keys of the journal, which its content
// has already.
func (s *Store) replayNode(n, parent *Node, idx int, ks []journal.OKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ptr ondisk.KV
	switch rs := s.roots[n.Btree]; {
	case parent != nil:
		ptr = parent.ptrKey(idx)
	case rs != nil:
		ptr = rs.key
	default:
		ptr = ondisk.KV{Key: ondisk.Key{Pos: ondisk.SPosMax}}
		s.liveMu.Lock()
		s.roots[n.Btree] = &rootState{key: ptr}
		s.liveMu.Unlock()
	}
	l := s.makeLive(n, ptr)
	cs := make([]change, 0, len(ks))
	for _, k := range ks {
		kv := k.KV
		if k.Type == ondisk.KeyAccounting {
			// Deltas: the node has the sum.
			if sum, ok := n.get(k.Pos); ok {
				kv = sum
			}
		}
		if n := len(cs); n > 0 && cs[n-1].kv.Pos == kv.Pos { // several deltas of one counter
			cs[n-1] = change{kv, max(k.Seq, cs[n-1].seq)}
		} else {
			cs = append(cs, change{kv, k.Seq})
		}
		if l.pin == 0 || k.Seq < l.pin {
			l.pin = k.Seq
		}
		l.maxSeq = max(l.maxSeq, k.Seq)
	}
	if len(cs) > 0 {
		l.unwritten = l.unwritten.add(cs)
	}
	// In case an append follows: what the journal says is newer than the node.
	s.setNode(l, l.node)
}
