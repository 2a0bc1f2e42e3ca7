package evals

// Grid is a result by two things, for a heat map: shares by row and column.
type Grid struct {
	Title    string // of a picture: what was measured
	Subtitle string // what a share is of, and what goes down and across
	Method   string
	Down     string   // what goes down
	Rows     []string // from top to bottom; the last is over all others
	Columns  []string
	Cells    [][]*Proportion // by row, then column; nil was not measured
	Total    Proportion
}

// Gridder is a result that has a heat map.
type Gridder interface{ Grid() Grid }
