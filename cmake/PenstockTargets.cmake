# penstock_library(name SOURCES... ) and penstock_module(name SOURCES...): one way to make a target.
#
# Lists of libraries follow the keyword LIBRARIES; CMake's link lists are what keeps the direction of dependencies.

set(PENSTOCK_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion)

if(PENSTOCK_LTO)
  include(CheckIPOSupported)
  check_ipo_supported(RESULT PENSTOCK_LTO_SUPPORTED OUTPUT PENSTOCK_LTO_MESSAGE)
  if(NOT PENSTOCK_LTO_SUPPORTED)
    message(STATUS "Link-time optimisation is off: ${PENSTOCK_LTO_MESSAGE}")
  endif()
endif()

function(penstock_target_settings name)
  target_compile_options(${name} PRIVATE ${PENSTOCK_WARNINGS} $<$<BOOL:${PENSTOCK_WERROR}>:-Werror>)
  if(PENSTOCK_LTO AND PENSTOCK_LTO_SUPPORTED)
    set_target_properties(${name} PROPERTIES INTERPROCEDURAL_OPTIMIZATION_RELEASE ON)
  endif()
endfunction()

# Half of what a compiler does is to read the standard library. Builds that are made for their tests alone read it once, and
# forgo the check that each source includes what it uses; the release build keeps that.
set(PENSTOCK_PRECOMPILED "${CMAKE_CURRENT_LIST_DIR}/precompiled.hpp")

# The first target of a kind (library, test: their flags differ) precompiles for the others.
function(penstock_precompiled name kind)
  if(NOT PENSTOCK_PRECOMPILE)
    return()
  endif()
  get_property(first GLOBAL PROPERTY PENSTOCK_PRECOMPILED_${kind})
  if(first)
    target_precompile_headers(${name} REUSE_FROM ${first})
  else()
    target_precompile_headers(${name} PRIVATE "${PENSTOCK_PRECOMPILED}")
    set_property(GLOBAL PROPERTY PENSTOCK_PRECOMPILED_${kind} ${name})
  endif()
endfunction()

# A static library. Its headers are found below include/ of the calling folder, or beside the sources when there is none.
function(penstock_library name)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "LIBRARIES")
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/include")
    target_include_directories(${name} PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/include")
  else()
    target_include_directories(${name} PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}")
  endif()
  target_link_libraries(${name} PUBLIC ${ARG_LIBRARIES} Threads::Threads)
  penstock_target_settings(${name})
endfunction()

if(PENSTOCK_MODULES)
  find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
    OUTPUT_VARIABLE nanobind_ROOT
    OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE PENSTOCK_NANOBIND_RESULT)
  if(NOT PENSTOCK_NANOBIND_RESULT EQUAL 0)
    message(FATAL_ERROR "${Python_EXECUTABLE} has no nanobind: pip install 'nanobind==3.1.*', or -DPENSTOCK_MODULES=OFF.")
  endif()
  find_package(nanobind CONFIG REQUIRED)
endif()

# A Python module that lands in penstock/native. Does nothing without PENSTOCK_MODULES, so that callers need not ask.
function(penstock_module name)
  if(NOT PENSTOCK_MODULES)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "LIBRARIES")
  nanobind_add_module(${name} NB_STATIC NOMINSIZE NB_SUPPRESS_WARNINGS ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES})
  penstock_target_settings(${name})
  install(TARGETS ${name} LIBRARY DESTINATION penstock/native COMPONENT modules)
endfunction()
