package block

import "container/list"

// pageCache keeps the pages of an httpReader that were used last. Its lock is
// the reader's. Pages are never changed once they are here, so a reader may
// copy from one that was evicted meanwhile.
type pageCache struct {
	m   map[int64]*list.Element
	lru list.List // of cachedPage, the latest first
}

type cachedPage struct {
	n int64
	b []byte
}

// get returns a page, nil if it is not here.
func (c *pageCache) get(n int64) []byte {
	e := c.m[n]
	if e == nil {
		return nil
	}
	c.lru.MoveToFront(e)
	return e.Value.(cachedPage).b
}

// has is get without use.
func (c *pageCache) has(n int64) bool { return c.m[n] != nil }

// put adds a page that is not here.
func (c *pageCache) put(n int64, b []byte) {
	if c.m == nil {
		c.m = map[int64]*list.Element{}
	}
	if c.has(n) {
		return
	}
	c.m[n] = c.lru.PushFront(cachedPage{n, b})
	if c.lru.Len() > httpCacheSize {
		e := c.lru.Back()
		delete(c.m, c.lru.Remove(e).(cachedPage).n)
	}
}
