# penstock_cuda_kernels(): the CUDA lane as one file of machine code, where there is an nvcc.
#
# It is no part of a module: workers load it through the driver, so that nothing of Penstock's is linked to CUDA. Without
# nvcc everything else is built as it would be, and a worker on a GPU says what it misses.

set(PENSTOCK_CUDA_ARCHITECTURES 80 90 CACHE STRING "Compute capabilities that the CUDA lane is compiled for")

set(PENSTOCK_HAS_CUDA OFF)
if(NOT PENSTOCK_CUDA)
  message(STATUS "CUDA: off (-DPENSTOCK_CUDA=ON compiles the CUDA lane when nvcc is found)")
else()
  # Where `make nvcc` installs it.
  file(GLOB installed "${CMAKE_SOURCE_DIR}/build/nvcc/lib/python*/site-packages/nvidia/cu*/bin")
  find_program(PENSTOCK_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATH_SUFFIXES bin PATHS /usr/local/cuda/bin ${installed})
  if(NOT PENSTOCK_NVCC)
    message(STATUS "CUDA: off, because no nvcc was found (put it on PATH, set CUDA_HOME, or run `make nvcc`)")
  else()
    set(PENSTOCK_HAS_CUDA ON)
    message(STATUS "CUDA: ${PENSTOCK_NVCC}, for sm_${PENSTOCK_CUDA_ARCHITECTURES}")
  endif()
endif()

# The sources are CUDA's, but CMake's own support of the language would drop C++20 silently before 3.26.
function(penstock_cuda_kernels)
  if(NOT PENSTOCK_HAS_CUDA)
    add_custom_target(_cuda_kernels)  # so that whoever builds it need not ask
    # Kernels of an earlier build may know nothing of what the modules of this one expect of them.
    install(CODE "file(REMOVE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/penstock/native/kernels.fatbin\")" COMPONENT modules)
    return()
  endif()
  set(result "${CMAKE_CURRENT_BINARY_DIR}/kernels.fatbin")
  set(targets "")
  foreach(architecture IN LISTS PENSTOCK_CUDA_ARCHITECTURES)
    list(APPEND targets -gencode "arch=compute_${architecture},code=sm_${architecture}")
  endforeach()
  # Newer devices compile the newest one's intermediate code when they load it.
  list(GET PENSTOCK_CUDA_ARCHITECTURES -1 newest)
  list(APPEND targets -gencode "arch=compute_${newest},code=compute_${newest}")
  file(GLOB headers CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/src/device/*.hpp"
       "${CMAKE_CURRENT_SOURCE_DIR}/include/penstock/kernels/*.hpp")
  add_custom_command(
    OUTPUT "${result}"
    COMMAND
      "${PENSTOCK_NVCC}" -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr ${targets} --fatbin
      -ccbin "${CMAKE_CXX_COMPILER}" -I "${CMAKE_CURRENT_SOURCE_DIR}/include"
      $<$<BOOL:${PENSTOCK_WERROR}>:-Werror=all-warnings> -o "${result}" "${CMAKE_CURRENT_SOURCE_DIR}/cuda/kernels.cu"
    DEPENDS cuda/kernels.cu ${headers}
    COMMENT "Compiling the CUDA lane"
    VERBATIM COMMAND_EXPAND_LISTS)
  add_custom_target(_cuda_kernels ALL DEPENDS "${result}")
  install(FILES "${result}" DESTINATION penstock/native COMPONENT modules OPTIONAL)
endfunction()
