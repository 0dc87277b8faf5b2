package ondisk

import "strconv"

// DataType says what a bucket, a pointer or a replicas entry holds (chapter 06
// section 1.2).
type DataType uint8

// Data types.
const (
	DataFree        DataType = 0
	DataSB          DataType = 1
	DataJournal     DataType = 2
	DataBtree       DataType = 3
	DataUser        DataType = 4
	DataCached      DataType = 5
	DataParity      DataType = 6
	DataStripe      DataType = 7
	DataNeedGCGens  DataType = 8
	DataNeedDiscard DataType = 9
	DataUnstriped   DataType = 10 // only in accounting
	DataMultiple    DataType = 11 // conflicting contents, tools 1.38.7 and later
	NrDataTypes              = 12
)

var dataTypeNames = [NrDataTypes]string{"free", "sb", "journal", "btree", "user", "cached", "parity", "stripe", "need_gc_gens", "need_discard", "unstriped", "multiple"}

// String is the name of the type, or "(unknown data_type N)".
func (t DataType) String() string {
	if t < NrDataTypes {
		return dataTypeNames[t]
	}
	return "(unknown data_type " + strconv.Itoa(int(t)) + ")"
}

// Empty: a bucket of this type holds nothing.
func (t DataType) Empty() bool { return t == DataFree || t == DataNeedGCGens || t == DataNeedDiscard }

// Hidden: buckets of this type do not count as usable space.
func (t DataType) Hidden() bool { return t == DataSB || t == DataJournal }

// Bucket is the data type that a bucket holding t is stored and compared as:
// cached and stripe buckets are user buckets.
func (t DataType) Bucket() DataType {
	if t == DataCached || t == DataStripe {
		return DataUser
	}
	return t
}
