# PENSTOCK_HAS_CUDA: whether the CUDA lanes are built. A missing or unusable nvcc is said, and never fails the build.

set(PENSTOCK_HAS_CUDA OFF)
if(NOT PENSTOCK_CUDA)
  message(STATUS "CUDA: off (-DPENSTOCK_CUDA=ON builds it when nvcc is found)")
  return()
endif()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(STATUS "CUDA: off, because no working nvcc was found (put it on PATH, or set CUDACXX)")
elseif(CMAKE_VERSION VERSION_LESS 3.26)
  # Older releases know no C++20 flag for nvcc and drop the standard silently.
  message(STATUS "CUDA: off, because CMake ${CMAKE_VERSION} cannot pass C++20 to nvcc (pip install -U cmake)")
else()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90)
  endif()
  enable_language(CUDA)
  set(PENSTOCK_HAS_CUDA ON)
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
endif()
