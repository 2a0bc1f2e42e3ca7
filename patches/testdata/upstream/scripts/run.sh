#!/bin/sh
exec engine
