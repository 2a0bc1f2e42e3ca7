#include "../common.cuh"
