// Package sanitize compiles C++ of the patches that takes what comes from outside into small
// programs with AddressSanitizer and UndefinedBehaviorSanitizer, and runs them on what nobody made
// with care. The programs have the host's own text, next to the few declarations (src) that it uses
// of the rest of the host, so that no more than one file is compiled.
//
//	ladder  llama_longrope::read and llama_longrope_set, and llama_get_nll_ith (patches 0018,
//	        0019, 0053)
//
// LONGROPE_SANITIZE names how many inputs each is given; without it they are few.
package sanitize
