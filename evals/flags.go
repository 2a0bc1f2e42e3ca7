package evals

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/longrope/longrope/evals/label"
)

// sizeFlag is a number of tokens as a flag's value: 4096 or 4k; 0 is not given.
type sizeFlag int

func (f *sizeFlag) Type() string { return "tokens" }
func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return label.Size(int(*f))
}

func (f *sizeFlag) Set(s string) error {
	n, err := label.ParseSize(s)
	*f = sizeFlag(n)
	return err
}

// sharesFlag is a list of numbers from 0 to 1.
type sharesFlag []float64

func (f *sharesFlag) Type() string { return "share,..." }
func (f *sharesFlag) String() string {
	var s []string
	for _, x := range *f {
		s = append(s, strconv.FormatFloat(x, 'g', -1, 64))
	}
	return strings.Join(s, ",")
}

func (f *sharesFlag) Set(s string) error {
	for _, field := range strings.Split(s, ",") {
		x, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || !(x >= 0 && x <= 1) {
			return fmt.Errorf("%q is not a number from 0 (at the start) to 1 (at the end)", field)
		}
		*f = append(*f, x)
	}
	return nil
}
