// Package study searches factors: it proposes candidates, takes their losses, and keeps a journal.
// Who evaluates them is not its business. Symbols and equations are those of package ropescale.
//
// A Study proposes candidates (Ask) and takes their losses (Tell). Candidates are scored on a list
// of readings: windows of text, keys that are hidden in them. Readings of one sequence of tokens
// are asked for together. A trial names the readings that a candidate is to be scored on, and a
// candidate may be asked for again with others, never twice on the same. Its fitness is exp of the
// weighted sum over those that have no other use (Reading.Use): generations have their own, so that
// the decision does not rest on those that were searched with, and so have the finalists. Losses
// above the best start's count five times where the best are chosen, for each kind of reading, and
// generations are steered by them (bars.go).
//
// Four algorithms. "cma", the default, is made for dear evaluations: CMA-ES on a few knots of log
// lambda, the attention factor and n-hat, whose generations are scored on one window each, or by
// cheap readings of two (bases.go), with a quadratic model that chooses between draws (sampled.go).
// "longrope" is the paper's evolutionary search with all of its space, "dim-mono" and
// "dim-piece-mono" are those that its authors released; these three score every candidate on
// everything.
//
// A study on disk is a journal of the batches that were proposed and the losses that were told. Its
// state is what replaying them gives, so a killed study resumes as if it had never stopped, also
// under a version of the program that would have proposed other candidates.
//
// # Sources
//
// LongRoPE is arXiv 2402.13753: its problem is to find the lambda_i and n-hat with the least
// perplexity at the target length. CMA-ES is Hansen's tutorial, arXiv 1604.00772; package cma
// numbers its equations.
//
// # Deviations
//
//   - longrope (the search) evaluates PI, NTK and YaRN once as published, with their own attention
//     factors, so that they can be compared; the initial population has their factors, on the grid,
//     with the search's attention factor. The paper does not say how n-hat mutates: here it is one
//     more gene.
//   - Bit-equality of a study is promised on one platform: Go may fuse multiply and add on others.
package study
