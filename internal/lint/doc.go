// Package lint is the rules of docs/map.md and CONTRIBUTING.md as tests. They
// read the source files themselves, whatever system or build tag a file is for.
//
// layers.go has who may import whom, docs/dependencies.txt which outside module
// serves whom; a failure says which sentence of them was broken.
package lint
