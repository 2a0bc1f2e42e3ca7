module github.com/longrope/longrope

go 1.24.1
