// Package oracle is for tests with the build tag oracle: it drives the real
// bcachefs, its command line tools 1.13 on this machine and its kernel module
// 6.12 in a virtual machine. Without the tag the package is empty.
//
// The folder with tools, vm and setup.sh is $GOBCACHEFS_ORACLE, or else
// ../shared/oracle beside the repository; setup.sh must have run once. What is
// missing fails the test.
package oracle
