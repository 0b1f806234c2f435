// Memory of NumPy arrays, see memory.cpp.
#pragma once

namespace tinygen {

// From now on large arrays that the calling thread's context makes are kept when they die. Raises Python exceptions.
void keep_large_arrays();

}  // namespace tinygen
