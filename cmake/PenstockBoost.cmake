# penstock::boost: Boost's headers (Beast, for the HTTP parser; nothing of Boost is linked).
#
# They come from the cmeel-boost wheel, a build requirement, found through its metadata; -DPENSTOCK_BOOST_INCLUDE=DIR
# names another tree. SYSTEM keeps Boost's warnings out of ours.

if(NOT PENSTOCK_BOOST_INCLUDE)
  find_package(Python 3.11 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "from importlib.metadata import distribution as d; print(d('cmeel-boost').locate_file('cmeel.prefix/include'))"
    OUTPUT_VARIABLE PENSTOCK_BOOST_FOUND
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET)
  set(PENSTOCK_BOOST_INCLUDE "${PENSTOCK_BOOST_FOUND}" CACHE PATH "Folder that holds boost/beast.hpp")
endif()
if(NOT EXISTS "${PENSTOCK_BOOST_INCLUDE}/boost/beast/version.hpp")
  unset(PENSTOCK_BOOST_INCLUDE CACHE)
  message(FATAL_ERROR "Boost's headers were not found: pip install cmeel-boost==1.90.0, or -DPENSTOCK_BOOST_INCLUDE=DIR.")
endif()

add_library(penstock_boost INTERFACE)
add_library(penstock::boost ALIAS penstock_boost)
target_include_directories(penstock_boost SYSTEM INTERFACE "${PENSTOCK_BOOST_INCLUDE}")
